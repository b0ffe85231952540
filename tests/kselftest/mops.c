// SPDX-License-Identifier: GPL-2.0
/* Memory copy and set instructions (FEAT_MOPS) in a guest. */
#include "vm.h"

#define ID_AA64ISAR2 ARM64_SYS_REG(3, 0, 0, 6, 2)
#define MOPS_SHIFT 16

#define MEMORY 0x60000000UL
#define SIZE 0x100000UL
#define PAGE 4096UL

/* Skips the case where the CPU has no such instructions. */
static void need_mops(struct vm *vm)
{
	if (!FIELD(reg_get(&vm->vcpus[0], ID_AA64ISAR2), MOPS_SHIFT))
		SKIP("the CPU has no FEAT_MOPS");
}

/* memmove() and memset(), three instructions each. */
static void copy(u64 to, u64 from, u64 size)
{
	__asm__ volatile(".arch armv8.8-a+mops\n\tcpyp [%0]!, [%1]!, %2!\n\tcpym [%0]!, [%1]!, %2!\n\tcpye [%0]!, [%1]!, %2!"
			 : "+r"(to), "+r"(from), "+r"(size)
			 :
			 : "memory", "cc");
}

static void set(u64 to, u8 byte, u64 size)
{
	__asm__ volatile(".arch armv8.8-a+mops\n\tsetp [%0]!, %1!, %2\n\tsetm [%0]!, %1!, %2\n\tsete [%0]!, %1!, %2"
			 : "+r"(to), "+r"(size)
			 : "r"((u64)byte)
			 : "memory", "cc");
}

/* A byte for each address that no shift of less than 2^24 bytes gives to another one of a page by chance. */
static u8 byte_at(u64 i)
{
	return i ^ i >> 8 ^ i >> 16;
}

static void guest_moves(u64 arg)
{
	u8 *memory = (u8 *)MEMORY;

	/* No page is there yet: each is a fault in the middle of one instruction. */
	set(MEMORY + 1, 0xa5, SIZE - 2);
	GUEST_CHECK_EQ(memory[0], 0);
	GUEST_CHECK_EQ(memory[SIZE - 1], 0);
	for (u64 i = 1; i < SIZE - 1; i += 61)
		GUEST_CHECK_EQ(memory[i], 0xa5);
	for (u64 i = 0; i < SIZE / 2; i++)
		memory[i] = byte_at(i);
	/* To where nothing is yet, then overlapping upwards and downwards. */
	copy(MEMORY + SIZE + 3, MEMORY, SIZE / 2);
	for (u64 i = 0; i < SIZE / 2; i += 61)
		GUEST_CHECK_EQ(memory[SIZE + 3 + i], byte_at(i));
	copy(MEMORY + 5 * PAGE + 7, MEMORY, SIZE / 2);
	for (u64 i = 0; i < SIZE / 2; i += 61)
		GUEST_CHECK_EQ(memory[5 * PAGE + 7 + i], byte_at(i));
	copy(MEMORY + 1, MEMORY + 5 * PAGE + 7, SIZE / 2);
	for (u64 i = 0; i < SIZE / 2; i += 61)
		GUEST_CHECK_EQ(memory[1 + i], byte_at(i));
	/* Nothing at all, from and to nowhere. */
	copy(0x700000000000, 0x700000001000, 0);
	set(0x700000000000, 1, 0);
}

TEST(copies_across_pages_that_are_not_there)
{
	struct vm *vm = vm_create(.main = guest_moves);
	u8 *memory = host_alloc(2 * SIZE, SIZE);

	need_mops(vm);
	CHECK_OK(vm_slot(vm, 1, 0, MEMORY, 2 * SIZE, memory));
	vcpu_done(&vm->vcpus[0]);
	for (u64 i = 0; i < SIZE / 2; i++)
		CHECK_EQ(memory[1 + i], byte_at(i));
}

static void guest_sets(u64 arg)
{
	for (u64 round = 0; round < 200; round++)
		set(MEMORY, round, SIZE);
	GUEST_SYNC(1);
	set(MEMORY + 3 * PAGE, 0, 2 * PAGE);
}

/* What is written by one instruction is in the log page by page. */
TEST(a_log_has_each_page)
{
	struct vm *vm = vm_create(.main = guest_sets);
	u8 *memory = host_alloc(SIZE, SIZE);
	u64 bitmap[SIZE / PAGE / 64];
	struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = bitmap };

	need_mops(vm);
	CHECK_OK(vm_slot(vm, 1, KVM_MEM_LOG_DIRTY_PAGES, MEMORY, SIZE, memory));
	vcpu_sync(&vm->vcpus[0], 1);
	CHECK_OK(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log));
	for (u64 i = 0; i < sizeof(bitmap) / 8; i++)
		CHECK_EQ(bitmap[i], ~0UL);
	vcpu_done(&vm->vcpus[0]);
	CHECK_OK(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log));
	CHECK_EQ(bitmap[0], 3UL << 3);
	for (u64 i = 1; i < sizeof(bitmap) / 8; i++)
		CHECK_EQ(bitmap[i], 0);
}

static void guest_has_none(u64 arg)
{
	u64 esr;

	GUEST_CHECK_EQ(FIELD(read_sysreg(S3_0_C0_C6_2), MOPS_SHIFT), 0);
	esr = GUEST_PROBE(".arch armv8.8-a+mops\n\tmov x9, xzr\n\tmov x10, xzr\n\tsetp [x9]!, x10!, xzr", : : : "x9", "x10", "cc", "memory");
	GUEST_CHECK_EQ(ESR_EC(esr), 0);
	GUEST_CHECK(esr);
	esr = GUEST_PROBE(".arch armv8.8-a+mops\n\tmov x9, xzr\n\tmov x10, xzr\n\tmov x11, xzr\n\tcpyp [x9]!, [x11]!, x10!", : : : "x9", "x10", "x11", "cc", "memory");
	GUEST_CHECK_EQ(ESR_EC(esr), 0);
	GUEST_CHECK(esr);
}

/* A VMM takes them away, to move its guest to CPUs without: then they are UNDEFINED, on this CPU too. */
TEST(without_them_they_are_undefined)
{
	struct vm *vm = vm_create(.main = guest_has_none);
	struct vcpu *vcpu = &vm->vcpus[0];

	need_mops(vm);
	reg_set(vcpu, ID_AA64ISAR2, reg_get(vcpu, ID_AA64ISAR2) & ~(0xfUL << MOPS_SHIFT));
	vcpu_done(vcpu);
}
