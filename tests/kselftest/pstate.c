// SPDX-License-Identifier: GPL-2.0
/* Whatever userspace writes to a vCPU's PSTATE: the guest runs at EL1 in AArch64, or at EL0, or it does not run. */
#include "vm.h"

#define DAIF 0x3c0
#define EL0T 0x0
#define EL1T 0x4
#define EL1H 0x5
#define USR32 0x10
#define MODES 0x1f
#define EC_ILLEGAL 0x0e

static const u64 PSTATE = CORE_REG(regs.pstate), PC = CORE_REG(regs.pc);
static u64 illegal;

static void on_illegal(struct guest_regs *regs)
{
	illegal++;
	regs->pstate = DAIF | EL1H;
}

static void guest_where(u64 arg)
{
	guest_sync_handlers[EC_ILLEGAL] = on_illegal;
	for (u64 i = 1;; i++) {
		GUEST_SYNC2(i, illegal);
		GUEST_CHECK_EQ(read_sysreg(CurrentEL), 1 << 2);
		GUEST_CHECK_EQ(read_sysreg(SPSel), 1);
	}
}

TEST(modes)
{
	struct vm *vm = vm_create(.main = guest_where);
	struct vcpu *vcpu = &vm->vcpus[0];
	bool aarch32 = (reg_get(vcpu, ARM64_SYS_REG(3, 0, 0, 4, 0)) & 0xf) == 2;
	u64 syncs = 1;

	vcpu_sync(vcpu, syncs++);
	for (u64 mode = 0; mode <= MODES; mode++) {
		bool good = mode == EL0T || mode == EL1T || mode == EL1H || (mode == USR32 && aarch32);
		u64 before = reg_get(vcpu, PSTATE), value = DAIF | mode;

		if (reg_try_set(vcpu, PSTATE, &value) == 0) {
			if (!good)
				ktap_expect(__FILE__, __LINE__, "mode %#lx was taken", mode);
			EXPECT_EQ(reg_get(vcpu, PSTATE), value);
			reg_set(vcpu, PSTATE, before);
		} else {
			if (good || errno != EINVAL)
				ktap_expect(__FILE__, __LINE__, "mode %#lx: %s", mode, strerrorname_np(errno));
			EXPECT_EQ(reg_get(vcpu, PSTATE), before);
		}
		/* The upper half is looked at too, but not as part of the mode. */
		value |= 0xffffffffUL << 32;
		if ((reg_try_set(vcpu, PSTATE, &value) == 0) != good)
			ktap_expect(__FILE__, __LINE__, "mode %#lx with the upper half: as if that belonged to it", mode);
		reg_set(vcpu, PSTATE, before);
		vcpu_sync(vcpu, syncs++);
	}
}

/* Nor in pieces: half a register is none. */
TEST(pieces)
{
	struct vm *vm = vm_create(.main = guest_where);
	struct vcpu *vcpu = &vm->vcpus[0];
	u64 whole = PSTATE & ~KVM_REG_SIZE_MASK, before = reg_get(vcpu, PSTATE);
	u8 value[16] = { 0xc9, 3 }; /* EL2h */

	for (u64 size = 0; size <= 4; size++)
		for (u64 half = 0; half < 2; half++)
			EXPECT_ERRNO(reg_try_set(vcpu, (whole + half) | size << KVM_REG_SIZE_SHIFT, value), EINVAL);
	/* A wide write to its neighbour before it does not spill over. */
	EXPECT_ERRNO(reg_try_set(vcpu, (PC & ~KVM_REG_SIZE_MASK) | KVM_REG_SIZE_U128, value), EINVAL);
	EXPECT_EQ(reg_get(vcpu, PSTATE), before);
	vcpu_sync(vcpu, 1);
	vcpu_sync(vcpu, 2);
}

/* Every other bit set: an illegal execution state is the guest's own to handle, the others are nothing to the host. */
TEST(other_bits)
{
	struct vm *vm = vm_create(.main = guest_where);
	struct vcpu *vcpu = &vm->vcpus[0];

	vcpu_sync(vcpu, 1);
	reg_set(vcpu, PSTATE, (0xffffffffUL & ~MODES) | EL1H);
	CHECK_EQ(vcpu_sync(vcpu, 2), 1);
	CHECK_EQ(reg_get(vcpu, PSTATE) & (MODES | DAIF), DAIF | EL1H);
	for (u64 bit = 5; bit < 64; bit++) {
		reg_set(vcpu, PSTATE, DAIF | EL1H | 1UL << bit);
		vcpu_sync(vcpu, bit - 2);
	}
}

extern const u8 el0_store[];
__asm__(".pushsection .text\n"
	"el0_store:\n"
	"	str	x1, [x0]\n"
	"	b	el0_store\n"
	".popsection\n");

/* At EL0 it is at EL0; at EL1 with SP_EL0 likewise. Without translation, as after reset. */
TEST(modes_that_run)
{
	static const u64 modes[] = { EL0T, EL1T, EL1H };

	for (u32 i = 0; i < ARRAY_SIZE(modes); i++) {
		struct vm *vm = vm_create(.main = guest_where);
		struct vcpu *vcpu = &vm->vcpus[0];

		reg_set(vcpu, PC, (u64)el0_store);
		reg_set(vcpu, CORE_REG(regs.regs[0]), GUEST_DOORBELL + 0x100);
		reg_set(vcpu, CORE_REG(regs.regs[1]), 0x1234 + i);
		reg_set(vcpu, PSTATE, DAIF | modes[i]);
		for (int j = 0; j < 3; j++) {
			CHECK_EQ(vcpu_run(vcpu), 0);
			CHECK_EQ(vcpu->run->exit_reason, KVM_EXIT_MMIO);
			CHECK_EQ(vcpu->run->mmio.phys_addr, GUEST_DOORBELL + 0x100);
			CHECK_EQ(*(u64 *)vcpu->run->mmio.data, 0x1234 + i);
			CHECK_EQ(reg_get(vcpu, PSTATE) & MODES, modes[i]);
		}
		vm_destroy(vm);
	}
}

/* A return of the guest's own to a level above it is illegal, too. */
static void guest_returns_up(u64 arg)
{
	static const u64 modes[] = { 0x8, 0x9, 0xc, 0xd, 0x1, 0x2, 0x7, 0x13, 0x1f };

	guest_sync_handlers[EC_ILLEGAL] = on_illegal;
	for (u32 i = 0; i < ARRAY_SIZE(modes); i++) {
		__asm__ volatile("adr	x9, 1f\n"
				 "	msr	elr_el1, x9\n"
				 "	msr	spsr_el1, %0\n"
				 "	eret\n"
				 "1:	nop\n"
				 : : "r"(DAIF | modes[i]) : "x9", "memory");
		GUEST_CHECK_EQ(read_sysreg(CurrentEL), 1 << 2);
		GUEST_CHECK_EQ(illegal, i + 1);
	}
}

TEST(illegal_return)
{
	struct vm *vm = vm_create(.main = guest_returns_up);

	vcpu_done(&vm->vcpus[0]);
}
