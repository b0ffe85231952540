// SPDX-License-Identifier: GPL-2.0
/* KVM_GET_ONE_REG and KVM_SET_ONE_REG: identifiers, errors, and that what is set is what the guest sees. */
#include "abi.h"
#include "timer.h"

#define SCTLR_EL1 ARM64_SYS_REG(3, 0, 1, 0, 0)
#define TTBR0_EL1 ARM64_SYS_REG(3, 0, 2, 0, 0)
#define TTBR1_EL1 ARM64_SYS_REG(3, 0, 2, 0, 1)
#define TCR_EL1 ARM64_SYS_REG(3, 0, 2, 0, 2)
#define ESR_EL1 ARM64_SYS_REG(3, 0, 5, 2, 0)
#define FAR_EL1 ARM64_SYS_REG(3, 0, 6, 0, 0)
#define PAR_EL1 ARM64_SYS_REG(3, 0, 7, 4, 0)
#define MAIR_EL1 ARM64_SYS_REG(3, 0, 10, 2, 0)
#define VBAR_EL1 ARM64_SYS_REG(3, 0, 12, 0, 0)
#define CONTEXTIDR_EL1 ARM64_SYS_REG(3, 0, 13, 0, 1)
#define TPIDR_EL1 ARM64_SYS_REG(3, 0, 13, 0, 4)
#define TPIDR_EL0 ARM64_SYS_REG(3, 3, 13, 0, 2)
#define TPIDRRO_EL0 ARM64_SYS_REG(3, 3, 13, 0, 3)
#define MPIDR_EL1 ARM64_SYS_REG(3, 0, 0, 0, 5)
#define AFSR0_EL1 ARM64_SYS_REG(3, 0, 5, 1, 0)
#define CSSELR_EL1 ARM64_SYS_REG(3, 2, 0, 0, 0)
#define CNTKCTL_EL1 ARM64_SYS_REG(3, 0, 14, 1, 0)
#define ID_AA64PFR0_EL1 ARM64_SYS_REG(3, 0, 0, 4, 0)
#define ID_AA64ZFR0_EL1 ARM64_SYS_REG(3, 0, 0, 4, 4)
#define CTR_EL0 ARM64_SYS_REG(3, 3, 0, 0, 1)

static void guest_nothing(u64 arg)
{
}

TEST(identifiers)
{
	struct vm *vm = vm_create(.main = guest_nothing);
	struct vcpu *vcpu = &vm->vcpus[0];
	u64 v[4] = { 0 }, pc = CORE_REG(regs.pc);

	/* Another architecture, or none. */
	EXPECT_ERRNO(reg_try_get(vcpu, (pc & ~KVM_REG_ARCH_MASK) | KVM_REG_X86, v), EINVAL);
	EXPECT_ERRNO(reg_try_set(vcpu, (pc & ~KVM_REG_ARCH_MASK) | KVM_REG_X86, v), EINVAL);
	EXPECT_ERRNO(reg_try_get(vcpu, 0, v), EINVAL);
	/* The wrong size. */
	EXPECT_ERRNO(reg_try_get(vcpu, (pc & ~KVM_REG_SIZE_MASK) | KVM_REG_SIZE_U32, v), EINVAL);
	EXPECT_ERRNO(reg_try_set(vcpu, (pc & ~KVM_REG_SIZE_MASK) | KVM_REG_SIZE_U32, v), EINVAL);
	EXPECT_ERRNO(reg_try_get(vcpu, (pc & ~KVM_REG_SIZE_MASK) | KVM_REG_SIZE_U128, v), EINVAL);
	EXPECT_ERRNO(reg_try_get(vcpu, (CORE_REG(fp_regs.vregs[0]) & ~KVM_REG_SIZE_MASK) | KVM_REG_SIZE_U64, v), EINVAL);
	EXPECT_ERRNO(reg_try_get(vcpu, (CORE_REG(fp_regs.fpsr) & ~KVM_REG_SIZE_MASK) | KVM_REG_SIZE_U64, v), EINVAL);
	/* Between two registers, and past the last. */
	EXPECT_ERRNO(reg_try_get(vcpu, pc + 1, v), EINVAL);
	EXPECT_ERRNO(reg_try_get(vcpu, KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | sizeof(struct kvm_regs) / 4, v), ENOENT);
	EXPECT_ERRNO(reg_try_get(vcpu, KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | 0xffff, v), ENOENT);
	/* System registers that do not exist, or with the wrong size. */
	EXPECT_ERRNO(reg_try_get(vcpu, ARM64_SYS_REG(2, 7, 15, 15, 7), v), ENOENT);
	EXPECT_ERRNO(reg_try_set(vcpu, ARM64_SYS_REG(2, 7, 15, 15, 7), v), ENOENT);
	EXPECT_ERRNO(reg_try_get(vcpu, (SCTLR_EL1 & ~KVM_REG_SIZE_MASK) | KVM_REG_SIZE_U32, v), ENOENT);
	EXPECT_ERRNO(reg_try_get(vcpu, SCTLR_EL1 | 1 << 30, v), ENOENT);
	/* Other coprocessor spaces. */
	EXPECT_ERRNO(reg_try_get(vcpu, KVM_REG_ARM64 | KVM_REG_SIZE_U64 | 0x00ff0000, v), ENOENT);
	EXPECT_ERRNO(reg_try_get(vcpu, KVM_REG_ARM_FW_REG(0xffff), v), ENOENT);
	EXPECT_ERRNO(reg_try_get(vcpu, KVM_REG_ARM64_SVE_VLS, v), ENOENT); /* not an SVE vCPU */
	/* Pointers. */
	EXPECT_ERRNO(reg_try_get(vcpu, pc, BAD_POINTER), EFAULT);
	EXPECT_ERRNO(reg_try_set(vcpu, pc, BAD_POINTER), EFAULT);
	EXPECT_ERRNO(reg_try_get(vcpu, SCTLR_EL1, BAD_POINTER), EFAULT);
	EXPECT_ERRNO(reg_try_set(vcpu, SCTLR_EL1, BAD_POINTER), EFAULT);
	EXPECT_ERRNO(reg_try_get(vcpu, KVM_REG_ARM_PSCI_VERSION, BAD_POINTER), EFAULT);
	vcpu_done(vcpu);
}

/* Only what can be is a state of the processor. */
TEST(pstate)
{
	struct vm *vm = vm_create(.main = guest_nothing);
	struct vcpu *vcpu = &vm->vcpus[0];
	u64 id = CORE_REG(regs.pstate);

	EXPECT_EQ(reg_get(vcpu, id), 0x3c5);
	EXPECT_OK(reg_try_set(vcpu, id, &(u64){ 0x3c4 })); /* EL1t */
	EXPECT_OK(reg_try_set(vcpu, id, &(u64){ 0x3c0 })); /* EL0t */
	EXPECT_ERRNO(reg_try_set(vcpu, id, &(u64){ 0x3c9 }), EINVAL); /* EL2h */
	EXPECT_ERRNO(reg_try_set(vcpu, id, &(u64){ 0x3cd }), EINVAL); /* EL3h */
	EXPECT_ERRNO(reg_try_set(vcpu, id, &(u64){ 0x3c1 }), EINVAL); /* EL0h: none such */
	EXPECT_ERRNO(reg_try_set(vcpu, id, &(u64){ 0x1d3 }), EINVAL); /* AArch32 SVC */
	EXPECT_OK(reg_try_set(vcpu, id, &(u64){ 0x3c5 }));
	vcpu_done(vcpu);
}

TEST(set_then_get)
{
	static const u64 ids[] = {
		CORE_REG(regs.regs[0]), CORE_REG(regs.regs[30]), CORE_REG(regs.sp), CORE_REG(regs.pc), CORE_REG(sp_el1), CORE_REG(elr_el1),
		CORE_REG(spsr[0]), TTBR0_EL1, TTBR1_EL1, ESR_EL1, FAR_EL1, MAIR_EL1, VBAR_EL1, CONTEXTIDR_EL1, TPIDR_EL1, TPIDR_EL0, TPIDRRO_EL0,
		TCR_EL1, PAR_EL1,
	};
	struct vm *vm = vm_create(.main = guest_nothing);
	struct vcpu *vcpu = &vm->vcpus[0];

	for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
		reg_set(vcpu, ids[i], 0x10001000 * (i + 1));
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++)
		if (reg_get(vcpu, ids[i]) != 0x10001000 * (i + 1))
			ktap_expect(__FILE__, __LINE__, "register %#lx: %#lx after %#lx was set", ids[i], reg_get(vcpu, ids[i]), 0x10001000 * (i + 1));
}

TEST(vector_registers)
{
	struct vm *vm = vm_create(.main = guest_nothing);
	struct vcpu *vcpu = &vm->vcpus[0];
	u32 status = 0x08000000, value = 0;

	for (u64 i = 0; i < 32; i++) {
		u64 v[2] = { i * 0x0101010101010101, ~i };

		CHECK_OK(reg_try_set(vcpu, CORE_REG(fp_regs.vregs[0]) + i * 4, v));
	}
	CHECK_OK(reg_try_set(vcpu, CORE_REG(fp_regs.fpsr), &status));
	vcpu_done(vcpu); /* the guest uses none */
	for (u64 i = 0; i < 32; i++) {
		u64 v[2] = { 0 };

		CHECK_OK(reg_try_get(vcpu, CORE_REG(fp_regs.vregs[0]) + i * 4, v));
		EXPECT_EQ(v[0], i * 0x0101010101010101);
		EXPECT_EQ(v[1], ~i);
	}
	CHECK_OK(reg_try_get(vcpu, CORE_REG(fp_regs.fpsr), &value));
	EXPECT_EQ(value, status);
}

static void guest_exchange(u64 arg)
{
	GUEST_CHECK_EQ(read_sysreg(tpidr_el0), 0x1111);
	GUEST_CHECK_EQ(read_sysreg(tpidrro_el0), 0x2222);
	GUEST_CHECK_EQ(read_sysreg(contextidr_el1), 0x3333);
	GUEST_CHECK_EQ(read_sysreg(afsr0_el1), 0);
	GUEST_CHECK_EQ(read_sysreg(ttbr1_el1), 0x4444000);
	GUEST_CHECK_EQ(read_sysreg(cntkctl_el1), 3);
	write_sysreg(0xaaaa, tpidr_el0);
	write_sysreg(0xbbbb, tpidrro_el0);
	write_sysreg(0xcccc, contextidr_el1);
	write_sysreg(0xdddd000, ttbr1_el1);
	write_sysreg(0x1234000, far_el1);
	write_sysreg(2, cntkctl_el1);
	isb();
	GUEST_SYNC(1);
	/* The host changed these while the vCPU was out, and left the others. */
	GUEST_CHECK_EQ(read_sysreg(tpidr_el0), 0x5555);
	GUEST_CHECK_EQ(read_sysreg(tpidrro_el0), 0xbbbb);
	GUEST_CHECK_EQ(read_sysreg(far_el1), 0x6666000);
}

TEST(guest_and_host_see_the_same)
{
	struct vm *vm = vm_create(.main = guest_exchange);
	struct vcpu *vcpu = &vm->vcpus[0];

	reg_set(vcpu, TPIDR_EL0, 0x1111);
	reg_set(vcpu, TPIDRRO_EL0, 0x2222);
	reg_set(vcpu, CONTEXTIDR_EL1, 0x3333);
	reg_set(vcpu, TTBR1_EL1, 0x4444000);
	reg_set(vcpu, CNTKCTL_EL1, 3);
	vcpu_sync(vcpu, 1);
	EXPECT_EQ(reg_get(vcpu, TPIDR_EL0), 0xaaaa);
	EXPECT_EQ(reg_get(vcpu, TPIDRRO_EL0), 0xbbbb);
	EXPECT_EQ(reg_get(vcpu, CONTEXTIDR_EL1), 0xcccc);
	EXPECT_EQ(reg_get(vcpu, TTBR1_EL1), 0xdddd000);
	EXPECT_EQ(reg_get(vcpu, FAR_EL1), 0x1234000);
	EXPECT_EQ(reg_get(vcpu, CNTKCTL_EL1), 2);
	EXPECT_EQ(reg_get(vcpu, TPIDR_EL1), (u64)vcpu->cpu);
	EXPECT_EQ(reg_get(vcpu, SCTLR_EL1), 0x30d0198d);
	EXPECT_EQ(reg_get(vcpu, TTBR0_EL1), (u64)guest_page_table);
	reg_set(vcpu, TPIDR_EL0, 0x5555);
	reg_set(vcpu, FAR_EL1, 0x6666000);
	vcpu_done(vcpu);
}

static void guest_registers(u64 arg)
{
	register u64 x20 __asm__("x20") = 0x2020;
	register u64 x28 __asm__("x28") = 0x2828;
	register u64 x9 __asm__("x9") = 0x0a000000;

	/* A read that userspace answers; meanwhile it also changes x20. */
	__asm__ volatile("ldr x0, [x9]\n\tmov x1, x0" : "+r"(x20), "+r"(x28), "+r"(x9) : : "x0", "x1", "memory");
	GUEST_CHECK_EQ(x20, 0xfeed);
	GUEST_CHECK_EQ(x28, 0x2828);
}

TEST(general_registers_in_an_exit)
{
	struct vm *vm = vm_create(.main = guest_registers);
	struct vcpu *vcpu = &vm->vcpus[0];

	CHECK_EQ(vcpu_run(vcpu), 0);
	CHECK_EQ(vcpu->run->exit_reason, KVM_EXIT_MMIO);
	EXPECT_EQ(reg_get(vcpu, CORE_REG(regs.regs[20])), 0x2020);
	EXPECT_EQ(reg_get(vcpu, CORE_REG(regs.regs[28])), 0x2828);
	EXPECT_EQ(reg_get(vcpu, CORE_REG(regs.regs[9])), 0x0a000000);
	reg_set(vcpu, CORE_REG(regs.regs[20]), 0xfeed);
	vcpu_done(vcpu);
}

TEST(id_registers)
{
	struct vm *vm = vm_create(.main = guest_nothing, .vcpus = 2);
	struct vcpu *vcpu = &vm->vcpus[0];
	u64 pfr0 = reg_get(vcpu, ID_AA64PFR0_EL1), other = pfr0 ^ 0xf << 16;

	EXPECT((pfr0 & 0xf) >= 1 && (pfr0 >> 4 & 0xf) >= 1); /* AArch64 at EL0 and EL1 */
	EXPECT_EQ(reg_get(vcpu, MPIDR_EL1) & 0xff00ffffffUL, 0);
	EXPECT_EQ(reg_get(&vm->vcpus[1], MPIDR_EL1) & 0xff00ffffffUL, 1);
	EXPECT_EQ(reg_get(vcpu, ID_AA64ZFR0_EL1), 0); /* no SVE */
	/* A feature that is not there cannot be promised. */
	EXPECT_ERRNO(reg_try_set(vcpu, ID_AA64ZFR0_EL1, &(u64){ 1 }), EINVAL);
	EXPECT_ERRNO(reg_try_set(vcpu, ID_AA64PFR0_EL1, &(u64){ pfr0 | 1UL << 32 }), EINVAL); /* SVE */
	EXPECT_OK(reg_try_set(vcpu, ID_AA64PFR0_EL1, &pfr0));
	vcpu_done(vcpu);
	/* After the first run they are what they are (the first run itself takes out what the VM was not given, such as the GIC). */
	pfr0 = reg_get(vcpu, ID_AA64PFR0_EL1);
	other = pfr0 ^ 0xf << 16;
	EXPECT_OK(reg_try_set(vcpu, ID_AA64PFR0_EL1, &pfr0));
	EXPECT_ERRNO(reg_try_set(vcpu, ID_AA64PFR0_EL1, &other), EBUSY);
}

TEST(invariant_registers)
{
	struct vm *vm = vm_create(.main = guest_nothing);
	struct vcpu *vcpu = &vm->vcpus[0];
	u64 midr = reg_get(vcpu, ARM64_SYS_REG(3, 0, 0, 0, 0)), ctr = reg_get(vcpu, CTR_EL0), wrong = midr ^ 0xff;

	EXPECT(midr != 0);
	EXPECT_OK(reg_try_set(vcpu, ARM64_SYS_REG(3, 0, 0, 0, 0), &midr));
	EXPECT_ERRNO(reg_try_set(vcpu, ARM64_SYS_REG(3, 0, 0, 0, 0), &wrong), EINVAL);
	EXPECT_OK(reg_try_set(vcpu, CTR_EL0, &ctr));
	wrong = ctr ^ 0xf; /* the size of the smallest instruction cache line */
	EXPECT(reg_try_set(vcpu, CTR_EL0, &wrong) == 0 || errno == EINVAL);
}

static u64 reported;

static void guest_version(u64 arg)
{
	reported = guest_hvc(0x84000000, 0, 0, 0).x0;
}

static void guest_cache_geometry(u64 arg)
{
	for (u64 csselr = 0; csselr < 2; csselr++) {
		write_sysreg(csselr, csselr_el1);
		isb();
		GUEST_SYNC2(1, read_sysreg(ccsidr_el1));
	}
}

/* CCSIDR_EL1, one for each value of CSSELR_EL1: any whose lines are as long as the CPU's. */
TEST(cache_geometry)
{
	struct vm *vm = vm_create(.main = guest_cache_geometry);
	struct vcpu *vcpu = &vm->vcpus[0];
	u64 id = KVM_REG_ARM64 | KVM_REG_SIZE_U32 | KVM_REG_ARM_DEMUX | KVM_REG_ARM_DEMUX_ID_CCSIDR;
	u32 data, instruction, larger, v;

	CHECK_OK(reg_try_get(vcpu, id, &data));
	CHECK_OK(reg_try_get(vcpu, id | 1, &instruction));
	CHECK((data & 7) > 0 && (data & 7) < 7);
	v = (data & 7) - 1;
	EXPECT_ERRNO(reg_try_set(vcpu, id, &v), EINVAL);
	CHECK_OK(reg_try_set(vcpu, id, &data));
	larger = 255 << 13 | 3 << 3 | ((data & 7) + 1); /* 256 sets, 4 ways */
	CHECK_OK(reg_try_set(vcpu, id, &larger));
	CHECK_OK(reg_try_get(vcpu, id, &v));
	CHECK_EQ(v, larger);
	CHECK_OK(reg_try_get(vcpu, id | 1, &v));
	CHECK_EQ(v, instruction);
	EXPECT_ERRNO(reg_try_get(vcpu, id | 14, &v), ENOENT);
	EXPECT_ERRNO(reg_try_set(vcpu, id | 14, &data), ENOENT);
	CHECK_EQ(vcpu_sync(vcpu, 1), larger);
	CHECK_EQ(vcpu_sync(vcpu, 1), instruction);
	vcpu_done(vcpu);
}

TEST(psci_version)
{
	u64 id = KVM_REG_ARM_PSCI_VERSION;
	struct vm *vm = vm_create(.main = guest_version);
	struct vcpu *vcpu = &vm->vcpus[0];

	EXPECT(reg_get(vcpu, id) >= 0x10001 && reg_get(vcpu, id) < 0x20000);
	EXPECT_ERRNO(reg_try_set(vcpu, id, &(u64){ 0x90000 }), EINVAL);
	EXPECT_ERRNO(reg_try_set(vcpu, id, &(u64){ 1 }), EINVAL); /* 0.1, with the PSCI 0.2 feature asked for */
	EXPECT_OK(reg_try_set(vcpu, id, &(u64){ 0x10000 }));
	EXPECT_EQ(reg_get(vcpu, id), 0x10000);
	vcpu_done(vcpu);
	EXPECT_EQ(VM_GLOBAL(vm, reported), 0x10000);
}

TEST(timer_registers)
{
	struct vm *vm = vm_create(.main = guest_nothing);
	struct vcpu *vcpu = &vm->vcpus[0];
	u64 a, b;

	reg_set(vcpu, KVM_REG_ARM_TIMER_CVAL, 0x123456789);
	EXPECT_EQ(reg_get(vcpu, KVM_REG_ARM_TIMER_CVAL), 0x123456789);
	reg_set(vcpu, KVM_REG_ARM_TIMER_CTL, 1);
	EXPECT_EQ(reg_get(vcpu, KVM_REG_ARM_TIMER_CTL) & 3, 1);
	a = reg_get(vcpu, KVM_REG_ARM_TIMER_CNT);
	b = reg_get(vcpu, KVM_REG_ARM_TIMER_CNT);
	EXPECT(b > a); /* it counts */
	reg_set(vcpu, KVM_REG_ARM_TIMER_CNT, 1UL << 40);
	a = reg_get(vcpu, KVM_REG_ARM_TIMER_CNT);
	EXPECT(a >= 1UL << 40 && a < 2UL << 40);
	reg_set(vcpu, KVM_REG_ARM_PTIMER_CVAL, 0x42);
	EXPECT_EQ(reg_get(vcpu, KVM_REG_ARM_PTIMER_CVAL), 0x42);
	reg_set(vcpu, KVM_REG_ARM_PTIMER_CTL, 2);
	EXPECT_EQ(reg_get(vcpu, KVM_REG_ARM_PTIMER_CTL) & 3, 2);
}

/* What the firmware's pseudo registers say of the workarounds is what its calls say, and what the guest's own registers say. */
#define WORKAROUND_1 KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_1
#define WORKAROUND_2 KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_2
#define WORKAROUND_3 KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_3

static void guest_workarounds(u64 arg)
{
	GUEST_SYNC2(1, guest_hvc(0x80000001, 0x80008000, 0, 0).x0);
	GUEST_SYNC2(2, guest_hvc(0x80000001, 0x80007fff, 0, 0).x0);
	GUEST_SYNC2(3, guest_hvc(0x80000001, 0x80003fff, 0, 0).x0);
	/* A call that is there, needed or not, does nothing that could be seen. */
	GUEST_SYNC2(4, guest_hvc(0x80008000, 0, 0, 0).x0);
	GUEST_SYNC2(5, guest_hvc(0x80003fff, 0, 0, 0).x0);
}

static void check_workarounds(bool without_ssbs)
{
	static const int answers[] = { -1, 0, 1 }; /* by level: not there, needed, not needed */
	struct vm *vm = vm_create(.main = guest_workarounds);
	struct vcpu *vcpu = &vm->vcpus[0];
	u64 pfr0 = reg_get(vcpu, ARM64_SYS_REG(3, 0, 0, 4, 0)), pfr1 = reg_get(vcpu, ARM64_SYS_REG(3, 0, 0, 4, 1));
	u64 one = reg_get(vcpu, WORKAROUND_1), two = reg_get(vcpu, WORKAROUND_2), three = reg_get(vcpu, WORKAROUND_3);

	ktap_note("levels %llu %llu %llu, CSV2 %llu, SSBS %llu", (unsigned long long)one, (unsigned long long)two,
		  (unsigned long long)three, (unsigned long long)(pfr0 >> 56 & 15), (unsigned long long)(pfr1 >> 4 & 15));
	CHECK(one <= 2 && (two == 0 || two == 3) && three <= 2);
	if (pfr0 >> 56 & 15)
		EXPECT_EQ(one, 2); /* the guest is told that its CPU is not affected */
	if (without_ssbs) {
		if (!(pfr1 >> 4 & 15))
			SKIP("no SSBS");
		reg_set(vcpu, ARM64_SYS_REG(3, 0, 0, 4, 1), pfr1 & ~0xf0UL);
		two = reg_get(vcpu, WORKAROUND_2);
		EXPECT_EQ(two, 3); /* what it has not, it cannot turn off */
		reg_set(vcpu, WORKAROUND_2, 3);
	}
	EXPECT_EQ((int)vcpu_sync(vcpu, 1), answers[one]);
	EXPECT_EQ((int)vcpu_sync(vcpu, 2), two ? -2 : -1);
	EXPECT_EQ((int)vcpu_sync(vcpu, 3), answers[three]);
	for (u64 n = 4; n <= 5; n++) {
		int answer = (int)vcpu_sync(vcpu, n);

		if (n == 4 ? one : three) /* else KVM says 0 as well */
			EXPECT_EQ(answer, 0);
	}
	vcpu_done(vcpu);
}

TEST(workarounds)
{
	check_workarounds(false);
}


/* Whether the host's kernel says of a flaw of its CPUs that they do not have it. */
static bool unaffected(const char *flaw)
{
	char path[96], line[64] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/vulnerabilities/%s", flaw);
	file = fopen(path, "r");
	CHECK(file);
	CHECK(fgets(line, sizeof(line), file));
	fclose(file);
	return !strcmp(line, "Not affected\n");
}

/* ID_AA64PFR0_EL1.CSV2 and CSV3 are what the kernel has found out, not only what the CPUs' registers say. */
TEST(flaws_that_the_host_has_not)
{
	struct vm *vm = vm_create(.main = guest_workarounds);
	u64 pfr0 = reg_get(&vm->vcpus[0], ARM64_SYS_REG(3, 0, 0, 4, 0));

	if (unaffected("spectre_v2"))
		EXPECT_EQ(pfr0 >> 56 & 15, 1);
	EXPECT_EQ(pfr0 >> 60 & 15, unaffected("meltdown"));
}

TEST(workarounds_without_ssbs)
{
	check_workarounds(true);
}
