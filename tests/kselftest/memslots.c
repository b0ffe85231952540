// SPDX-License-Identifier: GPL-2.0
/* Guest memory is the VMM's memory: what happens to it while the guest runs. */
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "abi.h"
#include "vm.h"

/* A second region of memory, beside the guest's own. */
#define AREA 0x80000000UL
#define ELSEWHERE 0xc0000000UL
#define PAGE 4096UL
#define MIB2 0x200000UL

static u64 stop, rounds;

/* Reads what is asked for, writes what is asked for: the host plays it through syncs. */
static u64 request_address, request_value;

static void guest_peek_poke(u64 arg)
{
	for (;;) {
		GUEST_SYNC2(1, *(volatile u64 *)READ_ONCE(request_address));
		*(volatile u64 *)READ_ONCE(request_address) = READ_ONCE(request_value);
		dsb(ish);
		GUEST_SYNC(2);
	}
}

/* Reads the guest's view of `address`, then stores `value` there. */
static u64 peek_poke(struct vcpu *vcpu, u64 address, u64 value)
{
	u64 old;

	VM_GLOBAL(vcpu->vm, request_address) = address;
	VM_GLOBAL(vcpu->vm, request_value) = value;
	old = vcpu_sync(vcpu, 1);
	vcpu_sync(vcpu, 2);
	return old;
}

TEST(map_unmap_map)
{
	u64 *a = host_alloc(MIB2, MIB2), *b = host_alloc(MIB2, MIB2);
	struct vm *vm = vm_create(.main = guest_peek_poke);
	struct vcpu *vcpu = &vm->vcpus[0];

	a[0] = 0xa0, b[0] = 0xb0;
	CHECK_OK(vm_slot(vm, 1, 0, AREA, MIB2, a));
	CHECK_EQ(peek_poke(vcpu, AREA, 0xa1), 0xa0);
	CHECK_EQ(a[0], 0xa1);
	/* Another memory at the same place. */
	CHECK_OK(vm_slot(vm, 1, 0, 0, 0, NULL));
	CHECK_OK(vm_slot(vm, 1, 0, AREA, MIB2, b));
	CHECK_EQ(peek_poke(vcpu, AREA, 0xb1), 0xb0);
	CHECK_EQ(b[0], 0xb1);
	CHECK_EQ(a[0], 0xa1);
	/* The same memory at another place; the old place is a hole now. */
	CHECK_OK(vm_slot(vm, 1, 0, ELSEWHERE, MIB2, b));
	CHECK_EQ(peek_poke(vcpu, ELSEWHERE, 0xb2), 0xb1);
	CHECK_EQ(b[0], 0xb2);
	VM_GLOBAL(vm, request_address) = AREA;
	CHECK_EQ(vcpu_run(vcpu), 0);
	CHECK_EQ(vcpu->run->exit_reason, KVM_EXIT_MMIO);
	CHECK_EQ(vcpu->run->mmio.phys_addr, AREA);
}

/* Two slots that show the same host page. */
TEST(alias)
{
	u64 *a = host_alloc(PAGE, PAGE);
	struct vm *vm = vm_create(.main = guest_peek_poke);
	struct vcpu *vcpu = &vm->vcpus[0];

	CHECK_OK(vm_slot(vm, 1, 0, AREA, PAGE, a));
	CHECK_OK(vm_slot(vm, 2, 0, ELSEWHERE, PAGE, a));
	CHECK_EQ(peek_poke(vcpu, AREA + 8, 1), 0);
	CHECK_EQ(peek_poke(vcpu, ELSEWHERE + 8, 2), 1);
	CHECK_EQ(peek_poke(vcpu, AREA + 8, 3), 2);
	CHECK_EQ(a[1], 3);
}

/* Many slots that show the same host page. When it goes, the CPUs do not forget them one by one. */
#define ALIASES 96

static void guest_read_aliases(u64 arg)
{
	for (;;) {
		u64 sum = 0;

		for (u64 i = 0; i < ALIASES; i++)
			sum += *(volatile u64 *)(AREA + i * PAGE);
		GUEST_SYNC2(1, sum);
	}
}

TEST(aliases_share_flushes)
{
	u64 *a = host_alloc(PAGE, PAGE), before;
	struct vm *vm = vm_create(.main = guest_read_aliases);
	int stats = stats_of(vm->fd);

	for (u32 i = 0; i < ALIASES; i++)
		CHECK_OK(vm_slot(vm, 1 + i, 0, AREA + i * PAGE, PAGE, a));
	for (u64 value = 1; value < 4; value++) {
		a[0] = value;
		CHECK_EQ(vcpu_sync(&vm->vcpus[0], 1), value * ALIASES);
		before = stats_counter(stats, "remote_tlb_flush");
		CHECK_OK(madvise(a, PAGE, MADV_DONTNEED));
		if (!ktap_on_kvm())
			CHECK(stats_counter(stats, "remote_tlb_flush") - before < ALIASES / 10);
	}
}

TEST(discard)
{
	u64 *a = host_alloc(MIB2, MIB2);
	struct vm *vm = vm_create(.main = guest_peek_poke);
	struct vcpu *vcpu = &vm->vcpus[0];

	CHECK_OK(vm_slot(vm, 1, 0, AREA, MIB2, a));
	CHECK_EQ(peek_poke(vcpu, AREA, 7), 0);
	CHECK_EQ(peek_poke(vcpu, AREA + 5 * PAGE, 8), 0);
	CHECK_OK(madvise(a, PAGE, MADV_DONTNEED));
	CHECK_EQ(peek_poke(vcpu, AREA, 9), 0); /* a fresh page, not the old one */
	CHECK_EQ(a[0], 9);
	CHECK_EQ(peek_poke(vcpu, AREA + 5 * PAGE, 10), 8); /* its neighbour stayed */
}

/* The VMM maps something else over part of the slot. */
TEST(remap)
{
	u8 *a = host_alloc(MIB2, MIB2);
	struct vm *vm = vm_create(.main = guest_peek_poke);
	struct vcpu *vcpu = &vm->vcpus[0];
	int fd = CHECK_OK(memfd_create("other", 0));

	CHECK_OK(ftruncate(fd, PAGE));
	CHECK(pwrite(fd, &(u64){ 0x77 }, 8, 0) == 8);
	CHECK_OK(vm_slot(vm, 1, 0, AREA, MIB2, a));
	CHECK_EQ(peek_poke(vcpu, AREA + PAGE, 1), 0);
	CHECK(mmap(a + PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) != MAP_FAILED);
	CHECK_EQ(peek_poke(vcpu, AREA + PAGE, 0x78), 0x77);
	CHECK_EQ(*(u64 *)(a + PAGE), 0x78);
	/* mremap takes the page along; the old place is empty. */
	CHECK(mremap(a + PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, a + 9 * PAGE) != MAP_FAILED);
	CHECK_EQ(peek_poke(vcpu, AREA + 9 * PAGE, 0x79), 0x78);
}

/* A slot has fewer than 2^31 pages, wherever it is and whether its pages are logged or not. (A log of 2^34 pages is more than a kernel allocates.) */
TEST(largest)
{
	static const u64 too_large[] = { 1UL << 43, 1UL << 46, 1UL << 50 };
	struct vm *vm = vm_create(.main = guest_peek_poke, .type = cap(KVM_CAP_ARM_VM_IPA_SIZE));
	u64 start = 1UL << 42, largest = (1UL << 43) - PAGE;

	for (u32 i = 0; i < ARRAY_SIZE(too_large); i++) {
		EXPECT_ERRNO(vm_slot(vm, 1, 0, start, too_large[i], NULL), EINVAL);
		EXPECT_ERRNO(vm_slot(vm, 1, KVM_MEM_LOG_DIRTY_PAGES, start, too_large[i], NULL), EINVAL);
	}
	if (cap(KVM_CAP_ARM_VM_IPA_SIZE) < 44) {
		EXPECT_ERRNO(vm_slot(vm, 1, 0, start, largest, NULL), EFAULT);
		return;
	}
	CHECK_OK(vm_slot(vm, 1, 0, start, largest, NULL));
	CHECK_OK(vm_slot(vm, 1, 0, 0, 0, NULL));
}

/* Nothing behind the slot: the VMM is told, not the guest. */
TEST(slot_without_memory)
{
	u8 *a = host_alloc(PAGE, PAGE);
	struct vm *vm = vm_create(.main = guest_peek_poke);
	struct vcpu *vcpu = &vm->vcpus[0];

	CHECK_OK(vm_slot(vm, 1, 0, AREA, PAGE, a));
	munmap(a, PAGE);
	VM_GLOBAL(vm, request_address) = AREA;
	CHECK_EQ(vcpu_run(vcpu), -EFAULT);
	/* Repaired, it goes on where it was. */
	CHECK(mmap(a, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == a);
	*(u64 *)a = 5;
	CHECK_EQ(vcpu_sync(vcpu, 1), 5);
}

TEST(host_protection)
{
	u8 *a = host_alloc(2 * PAGE, PAGE);
	struct vm *vm = vm_create(.main = guest_peek_poke);
	struct vcpu *vcpu = &vm->vcpus[0];

	CHECK_OK(vm_slot(vm, 1, 0, AREA, 2 * PAGE, a));
	CHECK_EQ(peek_poke(vcpu, AREA, 1), 0);
	CHECK_OK(mprotect(a, PAGE, PROT_READ));
	VM_GLOBAL(vm, request_address) = AREA;
	VM_GLOBAL(vm, request_value) = 2;
	CHECK_EQ(vcpu_sync(vcpu, 1), 1);
	CHECK_EQ(vcpu_run(vcpu), -EFAULT); /* the store */
	CHECK_EQ(*(u64 *)a, 1);
	CHECK_OK(mprotect(a, PAGE, PROT_READ | PROT_WRITE));
	vcpu_sync(vcpu, 2);
	CHECK_EQ(*(u64 *)a, 2);
}

/* A read-only slot: loads are memory, stores are MMIO. */
TEST(read_only)
{
	u64 *a = host_alloc(PAGE, PAGE);
	struct vm *vm = vm_create(.main = guest_peek_poke);
	struct vcpu *vcpu = &vm->vcpus[0];

	a[2] = 0x1234;
	CHECK_OK(vm_slot(vm, 1, KVM_MEM_READONLY, AREA, PAGE, a));
	VM_GLOBAL(vm, request_address) = AREA + 16;
	VM_GLOBAL(vm, request_value) = 0x5678;
	CHECK_EQ(vcpu_sync(vcpu, 1), 0x1234);
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(vcpu_run(vcpu), 0);
		CHECK_EQ(vcpu->run->exit_reason, KVM_EXIT_MMIO);
		CHECK_EQ(vcpu->run->mmio.phys_addr, AREA + 16);
		CHECK_EQ(vcpu->run->mmio.is_write, 1);
		CHECK_EQ(*(u64 *)vcpu->run->mmio.data, 0x5678);
		CHECK_EQ(a[2], 0x1234);
		vcpu_sync(vcpu, 2);
		a[2] = 0x1234;
		CHECK_EQ(vcpu_sync(vcpu, 1), 0x1234);
	}
}

/* Host memory that the VMM itself may only read serves a read-only slot. */
TEST(read_only_host_memory)
{
	u64 *a = host_alloc(PAGE, PAGE);
	struct vm *vm = vm_create(.main = guest_peek_poke);

	a[0] = 0x99;
	CHECK_OK(mprotect(a, PAGE, PROT_READ));
	CHECK_OK(vm_slot(vm, 1, KVM_MEM_READONLY, AREA, PAGE, a));
	VM_GLOBAL(vm, request_address) = AREA;
	CHECK_EQ(vcpu_sync(&vm->vcpus[0], 1), 0x99);
}

TEST(fork_copies)
{
	u64 *a = host_alloc(PAGE, PAGE);
	struct vm *vm = vm_create(.main = guest_peek_poke);
	struct vcpu *vcpu = &vm->vcpus[0];
	int pipes[2], status;
	pid_t child;

	CHECK_OK(vm_slot(vm, 1, 0, AREA, PAGE, a));
	CHECK_EQ(peek_poke(vcpu, AREA, 1), 0);
	CHECK_OK(pipe(pipes));
	child = CHECK_OK(fork());
	if (child == 0) {
		char c;

		/* When the parent's guest has written, the child's copy is still the old one. */
		if (read(pipes[0], &c, 1) != 1)
			_exit(2);
		_exit(a[0] == 1 ? 0 : 1);
	}
	CHECK_EQ(peek_poke(vcpu, AREA, 2), 1);
	CHECK(write(pipes[1], "", 1) == 1);
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK_EQ(status, 0);
	CHECK_EQ(a[0], 2);
	CHECK_EQ(peek_poke(vcpu, AREA, 3), 2);
	CHECK_EQ(a[0], 3);
}

TEST(shared_file_memory)
{
	int fd = CHECK_OK(memfd_create("guest", 0));
	struct vm *vm = vm_create(.main = guest_peek_poke);
	u64 *a, value = 0;

	CHECK_OK(ftruncate(fd, MIB2));
	a = mmap(NULL, MIB2, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(a != MAP_FAILED);
	CHECK_OK(vm_slot(vm, 1, 0, AREA, MIB2, a));
	CHECK(pwrite(fd, &(u64){ 42 }, 8, PAGE) == 8);
	CHECK_EQ(peek_poke(&vm->vcpus[0], AREA + PAGE, 43), 42);
	CHECK(pread(fd, &value, 8, PAGE) == 8);
	CHECK_EQ(value, 43);
	/* A hole punched in the file is seen as zeros. */
	CHECK_OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PAGE, PAGE));
	CHECK_EQ(peek_poke(&vm->vcpus[0], AREA + PAGE, 44), 0);
}

/* Writes a number to every page of the area, again and again; says so where a page has neither its number nor zero. */
static void guest_sweep(u64 pages)
{
	for (u64 round = 1; !READ_ONCE(stop); round++) {
		for (u64 i = 0; i < pages; i++) {
			volatile u64 *p = (volatile u64 *)(AREA + i * PAGE);
			u64 old = p[1];

			if (old && (old >> 32 != i || (old & 0xffffffff) >= round))
				GUEST_FAIL("a page holds what nobody wrote: page, value", i, old);
			p[1] = i << 32 | round;
		}
		WRITE_ONCE(rounds, round);
	}
}

static void sweep_start(struct vm *vm, u64 pages)
{
	((struct guest_cpu *)vm_host(vm, (u64)vm->vcpus[0].cpu))->arg = pages;
	vcpu_start(&vm->vcpus[0]);
	while (!VM_GLOBAL(vm, rounds))
		sleep_us(1000);
}

static void sweep_end(struct vm *vm)
{
	u64 before = VM_GLOBAL(vm, rounds);

	while (VM_GLOBAL(vm, rounds) < before + 2)
		sleep_us(1000); /* it is still alive */
	VM_GLOBAL(vm, stop) = 1;
	vcpu_join(&vm->vcpus[0]);
}

TEST(discard_while_running)
{
	u8 *a = host_alloc(MIB2, MIB2);
	struct vm *vm = vm_create(.main = guest_sweep);
	u64 end;

	CHECK_OK(vm_slot(vm, 1, 0, AREA, MIB2, a));
	sweep_start(vm, 64);
	end = now_us() + 700000;
	for (u64 i = 0; now_us() < end; i++)
		CHECK_OK(madvise(a + i * 7 % 64 * PAGE, (1 + i % 5) * PAGE, MADV_DONTNEED));
	sweep_end(vm);
}

/* As 2 MiB pages where the host has them, taken apart and put together under the guest. */
TEST(huge_pages_while_running)
{
	u8 *a = host_alloc(4 * MIB2, MIB2);
	struct vm *vm = vm_create(.main = guest_sweep);
	u64 end;

	if (madvise(a, 4 * MIB2, MADV_HUGEPAGE))
		SKIP("no transparent huge pages");
	CHECK_OK(vm_slot(vm, 1, 0, AREA, 4 * MIB2, a));
	sweep_start(vm, 1024);
	end = now_us() + 700000;
	for (u64 i = 0; now_us() < end; i++) {
		u8 *p = a + i % 2 * MIB2;

		CHECK_OK(madvise(p + 16 * PAGE, PAGE, MADV_DONTNEED)); /* splits */
		if (i % 4 == 0)
			CHECK_OK(mprotect(p, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC)), CHECK_OK(mprotect(p, PAGE, PROT_READ | PROT_WRITE));
		if (i % 3 == 0)
			madvise(p, MIB2, MADV_COLLAPSE); /* and joins; may be refused */
	}
	sweep_end(vm);
}

/* A host mapping whose alignment differs from the guest's cannot use blocks; the contents must be right all the same. */
TEST(huge_pages_misaligned)
{
	u8 *a = host_alloc(4 * MIB2, MIB2);
	struct vm *vm = vm_create(.main = guest_peek_poke);
	struct vcpu *vcpu = &vm->vcpus[0];

	madvise(a, 4 * MIB2, MADV_HUGEPAGE);
	for (u64 i = 0; i < 4 * MIB2 / PAGE; i++)
		*(u64 *)(a + i * PAGE) = i;
	CHECK_OK(vm_slot(vm, 1, 0, AREA, MIB2, a + PAGE)); /* shifted by a page */
	CHECK_OK(vm_slot(vm, 2, 0, ELSEWHERE + PAGE, MIB2 - 2 * PAGE, a + 2 * MIB2 + PAGE)); /* within a block, smaller */
	CHECK_EQ(peek_poke(vcpu, AREA, 100), 1);
	CHECK_EQ(peek_poke(vcpu, AREA + MIB2 - PAGE, 101), 512);
	CHECK_EQ(peek_poke(vcpu, ELSEWHERE + PAGE, 102), 1025);
	CHECK_EQ(peek_poke(vcpu, ELSEWHERE + MIB2 - 2 * PAGE, 103), 1534);
	CHECK_EQ(*(u64 *)(a + PAGE), 100);
	CHECK_EQ(*(u64 *)(a + MIB2), 101);
	/* Neither before the slot nor after it is anything visible. */
	VM_GLOBAL(vm, request_address) = ELSEWHERE;
	CHECK_EQ(vcpu_run(vcpu), 0);
	CHECK_EQ(vcpu->run->exit_reason, KVM_EXIT_MMIO);
	CHECK_EQ(vcpu->run->mmio.phys_addr, ELSEWHERE);
	VM_GLOBAL(vm, request_address) = ELSEWHERE + MIB2 - PAGE;
	memset(vcpu->run->mmio.data, 0, 8);
	vcpu_sync(vcpu, 1);
	CHECK_EQ(vcpu_run(vcpu), 0); /* the store */
	CHECK_EQ(vcpu->run->exit_reason, KVM_EXIT_MMIO);
	CHECK_EQ(vcpu->run->mmio.phys_addr, ELSEWHERE + MIB2 - PAGE);
}

static u64 mmio_hits;

/* While the slot is away its accesses are MMIO: answered with zero here. */
static bool hole(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	if (run->exit_reason != KVM_EXIT_MMIO || run->mmio.phys_addr < AREA || run->mmio.phys_addr >= ELSEWHERE + MIB2)
		return false;
	memset(run->mmio.data, 0, 8);
	__atomic_add_fetch(&mmio_hits, 1, __ATOMIC_SEQ_CST);
	return true;
}

TEST(delete_and_move_while_running)
{
	u8 *a = host_alloc(MIB2, MIB2);
	struct vm *vm = vm_create(.main = guest_sweep);
	u64 end;

	vm->vcpus[0].on_exit = hole;
	CHECK_OK(vm_slot(vm, 1, 0, AREA, MIB2, a));
	sweep_start(vm, 64);
	end = now_us() + 700000;
	while (now_us() < end) {
		CHECK_OK(vm_slot(vm, 1, 0, ELSEWHERE, MIB2, a)); /* a move */
		CHECK_OK(vm_slot(vm, 1, 0, AREA, MIB2, a));
		CHECK_OK(vm_slot(vm, 1, 0, 0, 0, NULL));
		sleep_us(500);
		CHECK_OK(vm_slot(vm, 1, 0, AREA, MIB2, a));
		sleep_us(500);
	}
	sweep_end(vm);
	CHECK(mmio_hits > 0);
}

/* Several vCPUs fault the same fresh pages in at once; each sees what all wrote. */
#define FAULT_PAGES 256
static u64 fault_gate;

static void guest_fault_in(u64 index)
{
	atomic_inc(&fault_gate);
	while (load_acquire(&fault_gate) < 4)
		;
	for (u64 i = 0; i < FAULT_PAGES; i++)
		__atomic_fetch_add((u64 *)(AREA + i * PAGE), 1UL << (16 * index), __ATOMIC_SEQ_CST);
}

TEST(parallel_faults)
{
	u8 *a = host_alloc(MIB2, MIB2);
	struct vm *vm = vm_create(.main = guest_fault_in, .vcpus = 4);

	CHECK_OK(vm_slot(vm, 1, 0, AREA, MIB2, a));
	vm_run_all(vm);
	for (u64 i = 0; i < FAULT_PAGES; i++)
		CHECK_EQ(*(u64 *)(a + i * PAGE), 0x0001000100010001);
}

/* Code that the host writes is code that the guest runs: what was there before is in no cache. */
static u64 (*code)(void);

static void guest_call_code(u64 arg)
{
	for (;;)
		GUEST_SYNC2(1, code());
}

TEST(code_replaced_by_discard)
{
	u32 *a = host_alloc(PAGE, PAGE);
	struct vm *vm = vm_create(.main = guest_call_code);

	CHECK_OK(vm_slot(vm, 1, 0, AREA, PAGE, a));
	VM_GLOBAL(vm, code) = (u64(*)(void))AREA;
	for (u32 i = 1; i < 5; i++) {
		CHECK_OK(madvise(a, PAGE, MADV_DONTNEED));
		a[0] = 0xd2800000 | i << 5; /* mov x0, #i */
		a[1] = 0xd65f03c0; /* ret */
		__builtin___clear_cache((char *)a, (char *)(a + 2));
		CHECK_EQ(vcpu_sync(&vm->vcpus[0], 1), i);
	}
}

/* Loads what is asked for. */
static void guest_peek(u64 arg)
{
	for (;;)
		GUEST_SYNC2(1, *(volatile u64 *)READ_ONCE(request_address));
}

/* As many slots as take several of the pieces that the module keeps them in; they come, move and go in any order. */
#define PAGES 4096
#define SLOTS 400

static struct {
	u64 page, count, from;
} slots[SLOTS];
static u32 owner[PAGES]; /* whose a page of the guest is: number + 1 */
static u64 *backing; /* PAGES of them, of which the slots have theirs `from` on */
#define WORDS (PAGE / sizeof(u64))

/* The guest finds what should be at its `page`: the right page's number, or nothing. */
static void check_peek(struct vcpu *vcpu, u64 page)
{
	u64 slot = owner[page] - 1;

	VM_GLOBAL(vcpu->vm, request_address) = AREA + page * PAGE;
	CHECK_EQ(vcpu_sync(vcpu, 1), owner[page] ? backing[(slots[slot].from + page - slots[slot].page) * WORDS] : 0);
}

static void own(u64 slot, u32 mark)
{
	for (u64 i = 0; i < slots[slot].count; i++)
		owner[slots[slot].page + i] = mark;
}

TEST_SECONDS(many, 90)
{
	u64 *other = host_alloc(PAGES * PAGE, PAGE), fresh = 0, most = 0, live = 0;
	struct vm *vm = vm_create(.main = guest_peek);
	struct vcpu *vcpu = &vm->vcpus[0];

	backing = host_alloc(PAGES * PAGE, PAGE);
	vcpu->on_exit = hole;
	srandom(1);
	for (u64 i = 0; i < PAGES; i++)
		backing[i * WORDS] = ++fresh;
	for (u64 n = 0; n < 4000; n++) {
		u64 at = random() % SLOTS, page = random() % (PAGES - 8), size = 1 + random() % 8, from = random() % (PAGES - 8);
		u64 action = random() % 8;
		bool exists = slots[at].count, taken = false;

		if (action == 0 && exists) { /* what the host has there is replaced */
			page = slots[at].page;
			from = slots[at].from * WORDS;
			check_peek(vcpu, page);
			CHECK_OK(madvise(backing + from, PAGE, MADV_DONTNEED));
			other[n * WORDS] = 0; /* takes the page that has become free */
			backing[from] = ++fresh;
		} else if (action == 1 || (action == 2 && n > 2000)) {
			int got = vm_slot(vm, at + 1, 0, 0, 0, NULL) ? errno : 0;

			CHECK_EQ(got, exists ? 0 : EINVAL);
			own(at, 0);
			slots[at].count = 0;
			live -= exists;
		} else { /* a new one, or another place for it */
			int got;

			if (exists)
				size = slots[at].count, from = slots[at].from;
			got = vm_slot(vm, at + 1, 0, AREA + page * PAGE, size * PAGE, backing + from * WORDS) ? errno : 0;
			for (u64 i = 0; i < size; i++)
				taken |= owner[page + i] && owner[page + i] != at + 1;
			CHECK_EQ(got, taken ? EEXIST : 0);
			if (!taken) {
				own(at, 0);
				slots[at] = (__typeof__(slots[at])){ page, size, from };
				own(at, at + 1);
				live += !exists;
			}
		}
		most = live > most ? live : most;
		for (u64 i = 0; i < 3; i++)
			check_peek(vcpu, (page + i * 100) % PAGES);
	}
	for (u64 page = 0; page < PAGES; page++)
		check_peek(vcpu, page);
	CHECK(most > 300);
}
