// SPDX-License-Identifier: GPL-2.0
/* Memory that a guest has lost is not the guest's: it neither reads nor writes it, whatever the host has put there since. */
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "vm.h"

#define AREA 0x80000000UL
#define PAGE 4096UL
#define MIB2 0x200000UL

static u64 request_value;

static void guest_peek_poke(u64 arg)
{
	for (;;) {
		GUEST_SYNC2(1, *(volatile u64 *)AREA);
		*(volatile u64 *)AREA = READ_ONCE(request_value);
		dsb(ish);
		GUEST_SYNC(2);
	}
}

static u64 peek_poke(struct vcpu *vcpu, u64 value)
{
	u64 old;

	VM_GLOBAL(vcpu->vm, request_value) = value;
	old = vcpu_sync(vcpu, 1);
	vcpu_sync(vcpu, 2);
	return old;
}

/* With this, system calls take addresses whose upper byte says anything (Documentation/arch/arm64/tagged-address-abi.rst). */
static void allow_tags(void)
{
	if (prctl(PR_SET_TAGGED_ADDR_CTRL, PR_TAGGED_ADDR_ENABLE, 0, 0, 0))
		SKIP("no tagged addresses: %s", strerrorname_np(errno));
}

static void *tagged(void *p, u64 tag)
{
	return (void *)((u64)p | tag << 56);
}

static int slot2(struct vm *vm, u32 slot, u64 size, void *memory)
{
	struct kvm_userspace_memory_region2 region = {
		.slot = slot, .guest_phys_addr = AREA, .memory_size = size, .userspace_addr = (u64)memory
	};

	return ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION2, &region);
}

TEST(tagged_address)
{
	u8 *a = host_alloc(MIB2, MIB2);
	struct vm *vm = vm_create(.main = guest_peek_poke);

	/* Not a user's address at all, unless the process has asked for tags. */
	EXPECT_ERRNO(vm_slot(vm, 1, 0, AREA, MIB2, tagged(a, 1)), EINVAL);
	allow_tags();
	for (u32 bit = 0; bit < 8; bit++)
		EXPECT_ERRNO(vm_slot(vm, 1, 0, AREA, MIB2, tagged(a, 1UL << bit)), EINVAL);
	EXPECT_ERRNO(vm_slot(vm, 1, 0, AREA, MIB2, tagged(a, 0xff)), EINVAL);
	EXPECT_ERRNO(vm_slot(vm, 1, KVM_MEM_READONLY, AREA, MIB2, tagged(a, 0xa5)), EINVAL);
	EXPECT_ERRNO(slot2(vm, 1, MIB2, tagged(a, 0x10)), EINVAL);
	/* Nor where there is a slot: neither to change it nor to delete it. */
	CHECK_OK(vm_slot(vm, 1, 0, AREA, MIB2, a));
	EXPECT_ERRNO(vm_slot(vm, 1, 0, AREA, MIB2, tagged(a, 1)), EINVAL);
	EXPECT_ERRNO(vm_slot(vm, 1, 0, AREA, 0, tagged(a, 1)), EINVAL);
	CHECK_EQ(peek_poke(&vm->vcpus[0], 5), 0);
	CHECK_EQ(*(u64 *)a, 5);
}

/*
 * Why: the kernel names what it takes away by addresses without tags. A slot that had one would not be found, and the
 * guest would keep the page.
 */
TEST(tagged_slot_follows_the_host)
{
	u64 *a = host_alloc(MIB2, MIB2), *reused;
	struct vm *vm = vm_create(.main = guest_peek_poke);
	struct vcpu *vcpu = &vm->vcpus[0];

	allow_tags();
	if (vm_slot(vm, 1, 0, AREA, MIB2, tagged(a, 0x40)) && errno == EINVAL)
		return;
	CHECK_OK(madvise(a, MIB2, MADV_NOHUGEPAGE));
	CHECK_EQ(peek_poke(vcpu, 0x1111), 0);
	CHECK_OK(madvise(a, PAGE, MADV_DONTNEED));
	EXPECT_EQ(*a, 0);
	EXPECT_EQ(peek_poke(vcpu, 0x2222), 0);
	EXPECT_EQ(*a, 0x2222);
	munmap(a, MIB2);
	reused = host_alloc(MIB2, MIB2);
	for (u64 i = 0; i < MIB2 / 8; i++)
		reused[i] = 0xcafe;
	EXPECT_EQ(vcpu_run(vcpu), -EFAULT);
	for (u64 i = 0; i < MIB2 / 8; i++)
		CHECK_EQ(reused[i], 0xcafe);
}

/*
 * The same against the clock. Three vCPUs fault in, read and mark the first page of some 2 MiB areas without end; the host
 * takes the memory away in the middle of that, and lets no doubt about it: what is gone is of an older generation than the
 * guest is told, and holds a canary, as do the pages that the kernel hands out again. A fault that was under way while its
 * memory went must not map it. Since that is a race, a module that is wrong may pass.
 */
#define PLACES 12
#define CANARY 0xc0ffee00c0ffee00UL
#define MARK 0x4d41524b4d41524bUL
#define CANARIES 48

static u64 generation, stop, rounds[3];

static void guest_hammer(u64 cpu)
{
	while (!READ_ONCE(stop)) {
		for (u64 i = 0; i < PLACES; i++) {
			volatile u64 *p = (volatile u64 *)(AREA + (i * 7 + cpu * 5) % PLACES * MIB2);
			u64 least = load_acquire(&generation), value = p[0];

			/* Zero is a fresh page, or no memory. */
			if (value && (value < least || value > load_acquire(&generation)))
				GUEST_FAIL("memory that was taken away is still read: value, generation", value, least);
			p[1] = MARK;
		}
		WRITE_ONCE(rounds[cpu], rounds[cpu] + 1);
	}
}

/* Between two slots. */
static bool hole(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	if (run->exit_reason != KVM_EXIT_MMIO || run->mmio.phys_addr < AREA || run->mmio.phys_addr >= AREA + PLACES * MIB2)
		return false;
	memset(run->mmio.data, 0, 8);
	return true;
}

/* The slot is there, its memory is not. */
static bool unbacked(struct vcpu *vcpu, int error)
{
	sched_yield();
	return error == EFAULT;
}

static struct vm *hammered;
static u8 *memory[2];
static u64 now; /* the generation; the slot has memory[now % 2] */

/* What is at p is the guest's from now on, with the generation `now`. */
static void give(u8 *p)
{
	for (u64 i = 0; i < PLACES; i++) {
		*(volatile u64 *)(p + i * MIB2 + 8) = 0;
		*(volatile u64 *)(p + i * MIB2) = now;
	}
}

/* And now no more. */
static void next_generation(void)
{
	store_release(&VM_GLOBAL(hammered, generation), ++now);
}

static void map_again(u8 *p)
{
	CHECK(mmap(p, PLACES * MIB2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == p);
	CHECK_OK(madvise(p, PLACES * MIB2, MADV_NOHUGEPAGE));
}

/* Another memory in the slot's place. */
static void replace(void)
{
	u8 *old = memory[now % 2];

	CHECK_OK(vm_slot(hammered, 1, 0, 0, 0, NULL));
	for (u64 i = 0; i < PLACES; i++)
		*(volatile u64 *)(old + i * MIB2 + 8) = CANARY;
	next_generation();
	give(memory[now % 2]);
	CHECK_OK(vm_slot(hammered, 1, 0, AREA, PLACES * MIB2, memory[now % 2]));
}

/* Every vCPU has ended what it was at, and has seen all places since. */
static void everyone_goes_on(void)
{
	u64 before[3];

	for (u32 i = 0; i < hammered->vcpu_count; i++)
		before[i] = VM_GLOBAL(hammered, rounds[i]);
	for (u32 i = 0; i < hammered->vcpu_count; i++)
		while (VM_GLOBAL(hammered, rounds[i]) < before[i] + 2)
			sleep_us(50);
}

static void check_canaries(u8 *p, u64 count, u64 stride)
{
	for (u64 i = 0; i < count; i++) {
		u64 found = *(volatile u64 *)(p + i * stride + 8);

		if (found != CANARY)
			FAIL("the guest wrote %#lx to a page that is the host's", found);
	}
}

/* The memory goes, the slot stays. Pages that were just given back are what the kernel hands out first. */
static void take_away(bool unmap)
{
	u8 *old = memory[now % 2], *pages;

	if (unmap)
		CHECK_OK(munmap(old, PLACES * MIB2));
	else
		CHECK_OK(madvise(old, PLACES * MIB2, MADV_DONTNEED));
	next_generation();
	pages = host_alloc(CANARIES * PAGE, PAGE);
	CHECK_OK(madvise(pages, CANARIES * PAGE, MADV_NOHUGEPAGE));
	for (u64 i = 0; i < CANARIES; i++)
		*(volatile u64 *)(pages + i * PAGE) = *(volatile u64 *)(pages + i * PAGE + 8) = CANARY;
	/* Without memory nobody gets on; a vCPU with a page that it has lost would, and write to it. */
	if (unmap)
		sleep_us(1000);
	else
		everyone_goes_on();
	check_canaries(pages, CANARIES, PAGE);
	munmap(pages, CANARIES * PAGE + PAGE);
	if (unmap)
		map_again(old);
	/* The generation has moved on, and with it the memory whose turn it is. */
	memory[(now + 1) % 2] = memory[now % 2];
	memory[now % 2] = old;
	give(old);
}

TEST_SECONDS(taken_while_faulting, 80)
{
	u64 seconds = getenv("LOFT_STRESS_SECONDS") ? strtoul(getenv("LOFT_STRESS_SECONDS"), NULL, 0) : 12, replaced = 0;
	u64 end = now_us() + seconds * 1000000;

	alarm(seconds + 72);
	hammered = vm_create(.main = guest_hammer, .vcpus = 3);
	for (u32 i = 0; i < 2; i++) {
		memory[i] = host_alloc(PLACES * MIB2, MIB2);
		map_again(memory[i]);
	}
	next_generation();
	give(memory[now % 2]);
	CHECK_OK(vm_slot(hammered, 1, 0, AREA, PLACES * MIB2, memory[now % 2]));
	for (u32 i = 0; i < 3; i++) {
		hammered->vcpus[i].on_exit = hole;
		hammered->vcpus[i].on_error = unbacked;
		vcpu_start(&hammered->vcpus[i]);
	}
	everyone_goes_on();
	for (; now_us() < end; replaced++) {
		replace();
		/* Now they fault: in the middle of it, sooner or later, everything changes again. */
		sleep_us(replaced % 23 * 50);
		replace();
		everyone_goes_on();
		check_canaries(memory[(now + 1) % 2], PLACES, MIB2);
		if (replaced % 8 == 7)
			take_away(replaced % 16 == 7);
	}
	everyone_goes_on();
	VM_GLOBAL(hammered, stop) = 1;
	for (u32 i = 0; i < 3; i++)
		vcpu_join(&hammered->vcpus[i]);
	ktap_note("replaced %lu times", replaced);
}
