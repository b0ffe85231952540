// SPDX-License-Identifier: GPL-2.0
/* KVM_ARM_VCPU_INIT for a vCPU that has run, which is how VMMs reboot a VM. */
#include <sys/mman.h>

#include "abi.h"
#include "gic.h"
#include "psci.h"
#include "timer.h"

#define AREA 0x80000000UL
#define PAGE 4096UL

static void init(struct vcpu *vcpu)
{
	struct kvm_vcpu_init init;

	/* A store that userspace has not finished moves the new program counter on Linux 7.2's KVM: it is finished first. */
	if (ktap_on_kvm()) {
		vcpu->run->immediate_exit = 1;
		CHECK_EQ(vcpu_run(vcpu), -EINTR);
		vcpu->run->immediate_exit = 0;
	}
	CHECK_OK(ioctl(vcpu->vm->fd, KVM_ARM_PREFERRED_TARGET, &init));
	init.features[0] |= 1 << KVM_ARM_VCPU_PSCI_0_2;
	CHECK_OK(ioctl(vcpu->fd, KVM_ARM_VCPU_INIT, &init));
}

static void start_at(struct vcpu *vcpu, u64 pc)
{
	reg_set(vcpu, CORE_REG(regs.pc), pc);
	reg_set(vcpu, CORE_REG(regs.regs[0]), (u64)vcpu->cpu);
}

static void guest_dirty(u64 arg)
{
	__asm__ volatile(".arch armv8-a+fp+simd\n"
			 "	movi	v0.16b, #0x11\n"
			 "	movi	v31.16b, #0x22\n"
			 "	msr	fpsr, %0\n"
			 "	msr	fpcr, %1\n"
			 : : "r"(0x1fUL), "r"(0x3UL << 22));
	write_sysreg(0x5555, elr_el1);
	write_sysreg(0x3c4, spsr_el1);
	write_sysreg(0x6666, sp_el0);
	write_sysreg(0x7777, tpidr_el0);
	write_sysreg(0x8888, tpidrro_el0);
	write_sysreg(0x9999, far_el1);
	timer_set_cval(TIMER_VIRTUAL, 1UL << 40);
	timer_set_ctl(TIMER_VIRTUAL, TIMER_ENABLE | TIMER_IMASK);
	timer_set_cval(TIMER_PHYSICAL, 1UL << 41);
	timer_set_ctl(TIMER_PHYSICAL, TIMER_ENABLE | TIMER_IMASK);
	GUEST_SYNC(1);
}

#define AT(op0, op1, crn, crm, op2) ARM64_SYS_REG(op0, op1, crn, crm, op2)

static void expect_zero(struct vcpu *vcpu, u64 id, const char *name)
{
	u64 value[2] = {};

	if (reg_try_get(vcpu, id, value))
		ktap_expect(__FILE__, __LINE__, "%s: %s", name, strerrorname_np(errno));
	else if (value[0] | value[1])
		ktap_expect(__FILE__, __LINE__, "%s is %#lx%016lx after a reset", name, value[1], value[0]);
}

#define ZERO(NAME) expect_zero(vcpu, CORE_REG(NAME), #NAME)

TEST(registers)
{
	struct vm *vm = vm_create(.main = guest_dirty, .gic = true);
	struct vcpu *vcpu = &vm->vcpus[0];
	u64 value[2];

	vcpu_sync(vcpu, 1);
	CHECK_OK(reg_try_get(vcpu, CORE_REG(fp_regs.vregs[31]), value));
	CHECK_EQ(value[0], 0x2222222222222222); /* it was not zero before */
	CHECK_EQ(reg_get(vcpu, CORE_REG(elr_el1)), 0x5555);
	init(vcpu);
	for (u32 i = 0; i < 31; i++)
		ZERO(regs.regs[i]);
	ZERO(regs.sp);
	ZERO(regs.pc);
	EXPECT_EQ(reg_get(vcpu, CORE_REG(regs.pstate)), 0x3c5);
	for (u32 i = 0; i < 32; i++)
		ZERO(fp_regs.vregs[i]);
	ZERO(fp_regs.fpsr);
	ZERO(fp_regs.fpcr);
	/* KVM leaves these three as they were, which the architecture allows: they are UNKNOWN after a reset. */
	if (!ktap_on_kvm()) {
		ZERO(sp_el1);
		ZERO(elr_el1);
		ZERO(spsr[KVM_SPSR_EL1]);
	}
	/* The timers are off, the MMU is too. */
	EXPECT_EQ(reg_get(vcpu, KVM_REG_ARM_TIMER_CTL) & TIMER_ENABLE, 0);
	EXPECT_EQ(reg_get(vcpu, KVM_REG_ARM_PTIMER_CTL) & TIMER_ENABLE, 0);
	EXPECT_EQ(reg_get(vcpu, AT(3, 0, 1, 0, 0)) & 1, 0);
	expect_zero(vcpu, AT(3, 0, 12, 0, 0), "VBAR_EL1");
}

/*
 * The VMM writes a new image, as a rebooting one does, and starts the vCPU there with its caches off: it sees what the VMM
 * wrote, not what the guest had in its caches. Emulation has no caches and cannot show that; it does show stale
 * translations and stale code.
 */
static u64 (*code)(void);

static void guest_before(u64 arg)
{
	for (u64 i = 0; i < 16; i++)
		*(volatile u64 *)(AREA + i * PAGE + 0x800) = 0xdead0000 + i;
	GUEST_SYNC2(1, code());
}

/* Reads x3 and stores what it found, and its own number, to x0. */
static void write_image(u32 *at, u32 number)
{
	at[0] = 0xd2800001 | number << 5; /* mov x1, #number */
	at[1] = 0xf9400062; /* ldr x2, [x3] */
	at[2] = 0xf9000001; /* str x1, [x0] */
	at[3] = 0xf9000002; /* str x2, [x0] */
	at[4] = 0x14000000; /* b . */
	at[16] = 0xd2800000 | number << 5; /* mov x0, #number */
	at[17] = 0xd65f03c0; /* ret */
	__builtin___clear_cache((char *)at, (char *)(at + 18));
}

static u64 stored(struct vcpu *vcpu)
{
	CHECK_EQ(vcpu_run(vcpu), 0);
	CHECK_EQ(vcpu->run->exit_reason, KVM_EXIT_MMIO);
	CHECK_EQ(vcpu->run->mmio.phys_addr, GUEST_DOORBELL + 0x100);
	return *(u64 *)vcpu->run->mmio.data;
}

TEST(new_image)
{
	u8 *a = host_alloc(16 * PAGE, PAGE);
	struct vm *vm = vm_create(.main = guest_before, .gic = true);
	struct vcpu *vcpu = &vm->vcpus[0];

	CHECK_OK(vm_slot(vm, 1, 0, AREA, 16 * PAGE, a));
	VM_GLOBAL(vm, code) = (u64(*)(void))(AREA + 16 * 4);
	write_image((u32 *)a, 1);
	for (u32 i = 1; i < 40; i++) {
		u32 page = i % 16;

		/* As before the reboot, with the MMU and the caches on. */
		init(vcpu);
		start_at(vcpu, (u64)guest_boot);
		CHECK_EQ(vcpu_sync(vcpu, 1), i);
		CHECK_EQ(*(u64 *)(a + page * PAGE + 0x800), 0xdead0000 + page);
		if (i % 3 == 0)
			CHECK_OK(madvise(a, 16 * PAGE, MADV_DONTNEED));
		write_image((u32 *)a, i + 1);
		*(u64 *)(a + page * PAGE + 0x800) = 0xbeef0000 + i;
		init(vcpu);
		start_at(vcpu, AREA);
		reg_set(vcpu, CORE_REG(regs.regs[0]), GUEST_DOORBELL + 0x100);
		reg_set(vcpu, CORE_REG(regs.regs[3]), AREA + page * PAGE + 0x800);
		CHECK_EQ(stored(vcpu), i + 1);
		CHECK_EQ(stored(vcpu), 0xbeef0000 + i);
	}
}

/* The guest asks for it itself; a second vCPU is off again, and comes up again. */
static struct guest_cpu *second;
static u64 ups, boots;

static void guest_reboots(u64 cpu)
{
	if (cpu == 1) {
		ups++;
		psci(PSCI_CPU_OFF, 0, 0, 0);
	}
	boots++;
	GUEST_CHECK_EQ(psci(PSCI_AFFINITY_INFO, 1, 0, 0), 1);
	GUEST_CHECK_EQ(psci_cpu_on(1, second), 0);
	while (READ_ONCE(ups) < boots)
		;
	psci(PSCI_SYSTEM_RESET, 0, 0, 0);
	GUEST_FAIL("went on after a reset", 0, 0);
}

static void *run_second(void *arg)
{
	struct vcpu *vcpu = arg;
	int r;

	/* Off, it waits until it is kicked. */
	while ((r = vcpu_run(vcpu)) == 0)
		;
	CHECK_EQ(r, -EINTR);
	return NULL;
}

TEST(rebooted_by_the_guest)
{
	struct vm *vm = vm_create(.main = guest_reboots, .gic = true, .vcpus = 2, .secondaries_off = true);
	struct kvm_vcpu_init off;

	kick_setup();
	VM_GLOBAL(vm, second) = vm->vcpus[1].cpu;
	CHECK_OK(ioctl(vm->fd, KVM_ARM_PREFERRED_TARGET, &off));
	off.features[0] |= 1 << KVM_ARM_VCPU_PSCI_0_2 | 1 << KVM_ARM_VCPU_POWER_OFF;
	for (u64 i = 1; i <= 10; i++) {
		struct vcpu *vcpu = &vm->vcpus[0];
		struct kvm_mp_state state;
		pthread_t thread;

		CHECK(pthread_create(&thread, NULL, run_second, &vm->vcpus[1]) == 0);
		CHECK_EQ(vcpu_run(vcpu), 0);
		CHECK_EQ(vcpu->run->exit_reason, KVM_EXIT_SYSTEM_EVENT);
		CHECK_EQ(vcpu->run->system_event.type, KVM_SYSTEM_EVENT_RESET);
		CHECK_EQ(VM_GLOBAL(vm, ups), i);
		kick(thread);
		pthread_join(thread, NULL);
		init(vcpu);
		start_at(vcpu, (u64)guest_boot);
		CHECK_OK(ioctl(vm->vcpus[1].fd, KVM_ARM_VCPU_INIT, &off));
		CHECK_OK(ioctl(vm->vcpus[1].fd, KVM_GET_MP_STATE, &state));
		CHECK_EQ(state.mp_state, KVM_MP_STATE_STOPPED);
	}
}
