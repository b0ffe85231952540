// SPDX-License-Identifier: GPL-2.0
/*
 * Stage-2 faults. The guest stores once to each of many pages in a row; the interval begins before the first of a round's
 * stores and ends after the last. One CPU, counted in the guest; its part are four instructions for each page.
 */
#include <sys/mman.h>

#include "bench.h"

#define AREA 0x80000000UL
#define PAGE 0x1000UL
#define BLOCK 0x200000UL
#define BLOCKS 10 /* in a round */
#define BLOCK_ROUNDS 30

/* Stores to `n` places, `stride` apart; returns the ticks. */
static u64 touch(u64 at, u64 stride, u64 n)
{
	u64 before, after, end = at + n * stride;

	__asm__ volatile("isb\n\tmrs %[before], cntvct_el0\n"
			 "1:\tstr wzr, [%[at]]\n\tadd %[at], %[at], %[stride]\n\tcmp %[at], %[end]\n\tb.ne 1b\n\t"
			 "isb\n\tmrs %[after], cntvct_el0"
			 : [before] "=&r"(before), [after] "=&r"(after), [at] "+&r"(at)
			 : [stride] "r"(stride), [end] "r"(end)
			 : "memory", "cc");
	return after - before;
}

/* Memory that the host has mapped for this process already, in pages or in blocks as `advice` says. */
static void *area(u64 size, int advice)
{
	void *memory = host_alloc(size, BLOCK);

	CHECK_OK(madvise(memory, size, advice));
	memset(memory, 1, size);
	return memory;
}

/* Every page is new: a fault, and a translation made for 4 KiB that the host has in memory. */
static void guest_pages(u64 arg)
{
	BENCH_EACH(round, BENCH_ROUNDS) {
		if (round == 0)
			GUEST_SYNC(0);
		bench_ticks[0][round] = touch(AREA + round * BENCH_OPERATIONS * PAGE, PAGE, BENCH_OPERATIONS);
	}
}

TEST(stage2_fault_4k)
{
	struct vm *vm = bench_vm(.main = guest_pages);
	const u64 size = ALIGN_UP(BENCH_ROUNDS * BENCH_OPERATIONS * PAGE, BLOCK);
	void *memory = area(size, MADV_NOHUGEPAGE);

	CHECK_OK(vm_slot(vm, 1, 0, AREA, size, memory));
	while (vcpu_next(&vm->vcpus[0]).command == GUEST_CMD_SYNC) {
		CHECK_OK(vm_slot(vm, 1, 0, AREA, 0, memory));
		CHECK_OK(vm_slot(vm, 1, 0, AREA, size, memory));
	}
	bench_report("stage2_fault_4k", BENCH_OPERATIONS, BENCH_ROUNDS, VM_GLOBAL(vm, bench_ticks)[0]);
}

/*
 * The same for 2 MiB that are one page of the host's. Between the rounds the slot is taken away and put back. That it is one
 * translation shows when each block's last page is touched next: that costs nothing.
 */
static void guest_blocks(u64 arg)
{
	for (u32 round = 0; round < BLOCK_ROUNDS; round++) {
		GUEST_SYNC(round);
		bench_ticks[0][round] = touch(AREA, BLOCK, BLOCKS);
		bench_ticks[1][round] = touch(AREA + BLOCK - PAGE, BLOCK, BLOCKS);
	}
}

/* The host's huge pages in this process, in bytes. */
static u64 huge_bytes(void)
{
	FILE *file = fopen("/proc/self/smaps_rollup", "r");
	char line[256];
	u64 kb = 0;

	CHECK(file);
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "AnonHugePages: %lu", &kb) == 1)
			break;
	fclose(file);
	return kb << 10;
}

TEST(stage2_fault_2m)
{
	struct vm *vm = bench_vm(.main = guest_blocks);
	const u64 size = BLOCKS * BLOCK;
	u8 *memory = area(size, MADV_HUGEPAGE);

	if (huge_bytes() < size)
		SKIP("the host gave no huge pages: /sys/kernel/mm/transparent_hugepage/enabled");
	for (u32 round = 0; round < BLOCK_ROUNDS; round++) {
		vcpu_sync(&vm->vcpus[0], round);
		if (round)
			CHECK_OK(vm_slot(vm, 1, 0, AREA, 0, memory));
		CHECK_OK(vm_slot(vm, 1, 0, AREA, size, memory));
	}
	vcpu_done(&vm->vcpus[0]);
	for (u32 round = 0; round < BLOCK_ROUNDS; round++)
		if (VM_GLOBAL(vm, bench_ticks)[1][round] < 10 * BLOCKS)
			return bench_report("stage2_fault_2m", BLOCKS, BLOCK_ROUNDS, VM_GLOBAL(vm, bench_ticks)[0]);
	FAIL("a huge page is not mapped as one block: its last page faults as well (%lu ticks for %u)",
	     VM_GLOBAL(vm, bench_ticks)[1][0], BLOCKS);
}

/* A store to a page that KVM_GET_DIRTY_LOG has just write-protected: the page is logged and writable again. */
static void guest_dirty(u64 arg)
{
	touch(AREA, PAGE, BENCH_OPERATIONS);
	BENCH_EACH(round, BENCH_ROUNDS) {
		GUEST_SYNC(round);
		bench_ticks[0][round] = touch(AREA, PAGE, BENCH_OPERATIONS);
	}
}

TEST(write_after_protect)
{
	struct vm *vm = bench_vm(.main = guest_dirty);
	u64 bitmap[BLOCK / PAGE / 64];
	struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = bitmap };

	if (vm_slot(vm, 1, KVM_MEM_LOG_DIRTY_PAGES, AREA, BLOCK, area(BLOCK, MADV_NOHUGEPAGE)) < 0)
		SKIP("KVM_MEM_LOG_DIRTY_PAGES: %s", strerrorname_np(errno));
	BENCH_EACH(round, BENCH_ROUNDS) {
		vcpu_sync(&vm->vcpus[0], round);
		memset(bitmap, 0, sizeof(bitmap));
		if (ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log) < 0)
			SKIP("KVM_GET_DIRTY_LOG: %s", strerrorname_np(errno));
		CHECK_EQ(bitmap[0], (1UL << BENCH_OPERATIONS) - 1); /* all of them are seen, so all were protected */
	}
	vcpu_done(&vm->vcpus[0]);
	bench_report("write_after_protect", BENCH_OPERATIONS, BENCH_ROUNDS, VM_GLOBAL(vm, bench_ticks)[0]);
}
