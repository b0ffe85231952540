// SPDX-License-Identifier: GPL-2.0
/*
 * 32-bit programs: EL0 in AArch32, in both of its instruction sets, under a kernel in AArch64. What traps to the hypervisor is answered
 * for the instruction that it is: of 16 or 32 bits, with a condition or in a block of such, of one register or two.
 */
#include "abi.h"
#include "gic.h"
#include "timer.h"

#define PSTATE_USER 0x10UL
#define PSTATE_T32 (PSTATE_USER | 1 << 5)
#define PSTATE_E (1UL << 9)
#define PSTATE_D_TO_F 0x3c0UL
#define ZERO (1UL << 30)
#define EC_SVC32 0x11
#define EC_CP15 0x03
#define CODE 0x80000000UL
#define HOLE 0xc0000000UL
#define ID_AA64PFR0_EL1 ARM64_SYS_REG(3, 0, 0, 4, 0)
#define PSTATE CORE_REG(regs.pstate)

static struct {
	u64 x[15], pc, pstate, esr;
} user;
static u64 kernel_regs[12], stored, ticks;

/* Goes to EL0 with what is in `user`, and comes back when an exception has been taken from there. */
void user_enter(void *user, u64 *save);
void user_return(void);
__asm__(".pushsection .text\n"
	".global user_enter, user_return\n"
	"user_enter:\n"
	"	stp	x19, x20, [x1]\n"
	"	stp	x21, x22, [x1, #16]\n"
	"	stp	x23, x24, [x1, #32]\n"
	"	stp	x25, x26, [x1, #48]\n"
	"	stp	x27, x28, [x1, #64]\n"
	"	stp	x29, x30, [x1, #80]\n"
	"	ldp	x1, x2, [x0, #120]\n"
	"	msr	elr_el1, x1\n"
	"	msr	spsr_el1, x2\n"
	"	ldp	x13, x14, [x0, #104]\n"
	"	ldp	x11, x12, [x0, #88]\n"
	"	ldp	x9, x10, [x0, #72]\n"
	"	ldp	x7, x8, [x0, #56]\n"
	"	ldp	x5, x6, [x0, #40]\n"
	"	ldp	x3, x4, [x0, #24]\n"
	"	ldp	x1, x2, [x0, #8]\n"
	"	ldr	x0, [x0]\n"
	"	eret\n"
	"user_return:\n" /* x0 is what was saved */
	"	ldp	x19, x20, [x0]\n"
	"	ldp	x21, x22, [x0, #16]\n"
	"	ldp	x23, x24, [x0, #32]\n"
	"	ldp	x25, x26, [x0, #48]\n"
	"	ldp	x27, x28, [x0, #64]\n"
	"	ldp	x29, x30, [x0, #80]\n"
	"	ret\n"
	".popsection\n");

static void on_user(struct guest_regs *regs)
{
	for (u32 i = 0; i < 15; i++)
		user.x[i] = regs->x[i];
	user.pc = regs->pc;
	user.pstate = regs->pstate;
	user.esr = regs->esr;
	/* The stack pointer is as it was: the exception has used what is below it. */
	regs->x[0] = (u64)kernel_regs;
	regs->pc = (u64)user_return;
	regs->pstate = PSTATE_D_TO_F | 5;
}

/* Runs a program, which is in the memory at CODE, until its SVC; it has used `instructions` bytes until then. */
static void run_until(u32 ec, u64 pstate, u64 bytes)
{
	guest_aarch32_handler = on_user;
	user.pc = CODE;
	user.pstate = pstate;
	user_enter(&user, kernel_regs);
	GUEST_CHECK_EQ(ESR_EC(user.esr), ec);
	GUEST_CHECK_EQ(user.pc, CODE + bytes);
}

static void a32(const u32 *code, u32 n)
{
	for (u32 i = 0; i < n; i++)
		((volatile u32 *)CODE)[i] = code[i];
	__asm__ volatile("dsb ish; ic iallu; dsb ish; isb" : : : "memory");
}

static void t32(const u16 *code, u32 n)
{
	for (u32 i = 0; i < n; i++)
		((volatile u16 *)CODE)[i] = code[i];
	__asm__ volatile("dsb ish; ic iallu; dsb ish; isb" : : : "memory");
}

#define A32(...)                                           \
	({                                                 \
		static const u32 code_[] = { __VA_ARGS__ }; \
		a32(code_, ARRAY_SIZE(code_));             \
	})
#define T32(...)                                           \
	({                                                 \
		static const u16 code_[] = { __VA_ARGS__ }; \
		t32(code_, ARRAY_SIZE(code_));             \
	})
#define SVC 0xef000000
#define SVC_T 0xdf00

static bool on_hole(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	u64 value = 0x8081828384858687;

	if (run->exit_reason != KVM_EXIT_MMIO || run->mmio.phys_addr < HOLE)
		return false;
	if (!run->mmio.is_write)
		memcpy(run->mmio.data, &value, 8);
	else
		memcpy((void *)&VM_GLOBAL(vcpu->vm, stored), run->mmio.data, run->mmio.len);
	return true;
}

/* Makes a VM whose guest's EL0 can use CODE, HOLE and the interrupt controller. */
static struct vm *vm_with_user(void (*main)(u64))
{
	struct vm *vm;

	vm = vm_create(.main = main, .gic = true);
	if ((reg_get(&vm->vcpus[0], ID_AA64PFR0_EL1) & 0xf) != 2)
		SKIP("the CPU's EL0 has no AArch32");
	CHECK_OK(vm_slot(vm, 1, 0, CODE, 0x1000, host_alloc(0x1000, 0x1000)));
	VM_GLOBAL(vm, guest_page_table[0]) |= 1 << 6;
	VM_GLOBAL(vm, guest_page_table[CODE >> 30]) |= 1 << 6;
	VM_GLOBAL(vm, guest_page_table[HOLE >> 30]) |= 1 << 6;
	vm->vcpus[0].on_exit = on_hole;
	return vm;
}

static void guest_devices(u64 arg)
{
	u32 typer = mmio_read32(GUEST_GICD + GICD_TYPER);

	/* LDR, LDRB, LDRSB, LDRH, LDRSH, and STR of what came. */
	user.x[1] = HOLE;
	A32(0xe5910000, 0xe5d12000, 0xe1d130d0, 0xe1d140b0, 0xe1d150f0, 0xe5810004, SVC);
	run_until(EC_SVC32, PSTATE_USER, 28);
	GUEST_CHECK_EQ(user.x[0], 0x84858687);
	GUEST_CHECK_EQ(user.x[2], 0x87);
	GUEST_CHECK_EQ(user.x[3], 0xffffff87);
	GUEST_CHECK_EQ(user.x[4], 0x8687);
	GUEST_CHECK_EQ(user.x[5], 0xffff8687);
	GUEST_CHECK_EQ(READ_ONCE(stored), 0x84858687);
	/* The kernel's own device. */
	user.x[1] = GUEST_GICD;
	A32(0xe5910004, 0xe5810084, 0xe5912084, SVC); /* TYPER; IGROUPR1 written and read */
	run_until(EC_SVC32, PSTATE_USER, 16);
	GUEST_CHECK_EQ(user.x[0], typer);
	GUEST_CHECK_EQ(user.x[2], typer);
	/* LDR and STR of 16 bits. */
	user.x[1] = HOLE;
	user.x[2] = 0x1234;
	T32(0x6808, 0x604a, SVC_T);
	run_until(EC_SVC32, PSTATE_T32, 6);
	GUEST_CHECK_EQ(READ_ONCE(stored), 0x1234);
	GUEST_CHECK_EQ(user.x[0], 0x84858687);
	/*
	 * CMP r2, r2; ITTE EQ; LDREQ r0, [r1]; ADDEQ r3, #1; ADDNE r4, #1: the block goes on behind the load. And where its condition
	 * fails, nothing is loaded.
	 */
	user.x[0] = user.x[3] = user.x[4] = 0;
	T32(0x4292, 0xbf06, 0x6808, 0x3301, 0x3401, SVC_T);
	run_until(EC_SVC32, PSTATE_T32, 12);
	GUEST_CHECK_EQ(user.x[0], 0x84858687);
	GUEST_CHECK_EQ(user.x[3], 1);
	GUEST_CHECK_EQ(user.x[4], 0);
	/* The same with 32 bits: LDREQ.W r0, [r1]. */
	user.x[0] = user.x[3] = user.x[4] = 0;
	T32(0x4292, 0xbf06, 0xf8d1, 0x0000, 0x3301, 0x3401, SVC_T);
	run_until(EC_SVC32, PSTATE_T32, 14);
	GUEST_CHECK_EQ(user.x[0], 0x84858687);
	GUEST_CHECK_EQ(user.x[3], 1);
	GUEST_CHECK_EQ(user.x[4], 0);
	/* Its data may have the other order, whatever the kernel's have. */
	user.x[1] = HOLE;
	A32(0xe5910000, SVC);
	run_until(EC_SVC32, PSTATE_USER | PSTATE_E, 8);
	GUEST_CHECK_EQ(user.x[0], 0x87868584);
}

TEST(devices)
{
	struct vm *vm = vm_with_user(guest_devices);

	vcpu_done(&vm->vcpus[0]);
}

static void guest_timers(u64 arg)
{
	u64 before, after, now;

	write_sysreg(0x303, cntkctl_el1); /* EL0 has both counters and both timers */
	for (u32 i = 0; i < 2; i++) {
		enum guest_timer timer = i ? TIMER_VIRTUAL : TIMER_PHYSICAL;

		before = timer_counter(timer);
		/* MRRC p15, 0 or 1, r2, r3, c14 */
		if (timer == TIMER_VIRTUAL)
			A32(0xec532f1e, SVC);
		else
			A32(0xec532f0e, SVC);
		run_until(EC_SVC32, PSTATE_USER, 8);
		after = timer_counter(timer);
		now = user.x[3] << 32 | user.x[2];
		GUEST_CHECK_EQ(user.x[2] >> 32 | user.x[3] >> 32, 0);
		GUEST_CHECK(before <= now && now <= after);
	}
	/* In a block: CMP r2, r2; ITTE EQ; MRRCEQ p15, 0, r2, r3, c14; ADDEQ r5, #1; ADDNE r4, #1. */
	user.x[4] = user.x[5] = 0;
	before = timer_counter(TIMER_PHYSICAL);
	T32(0x4292, 0xbf06, 0xec53, 0x2f0e, 0x3501, 0x3401, SVC_T);
	run_until(EC_SVC32, PSTATE_T32, 14);
	GUEST_CHECK((user.x[3] << 32 | user.x[2]) >= before);
	GUEST_CHECK_EQ(user.x[5], 1);
	GUEST_CHECK_EQ(user.x[4], 0);
	/* MCRR p15, 2, r2, r3, c14: CNTP_CVAL; MCR p15, 0, r6, c14, c2, 1: CNTP_CTL; and both read, into r7, r8 and r9. */
	user.x[2] = 0x11112222;
	user.x[3] = 0x7fff;
	user.x[6] = TIMER_ENABLE | TIMER_IMASK;
	A32(0xec432f2e, 0xee0e6f32, 0xec587f2e, 0xee1e9f32, SVC);
	run_until(EC_SVC32, PSTATE_USER, 20);
	GUEST_CHECK_EQ(timer_cval(TIMER_PHYSICAL), 0x7fff11112222);
	GUEST_CHECK_EQ(timer_ctl(TIMER_PHYSICAL), TIMER_ENABLE | TIMER_IMASK);
	GUEST_CHECK_EQ(user.x[7], 0x11112222);
	GUEST_CHECK_EQ(user.x[8], 0x7fff);
	GUEST_CHECK_EQ(user.x[9], TIMER_ENABLE | TIMER_IMASK);
	/* MCR p15, 0, r2, c14, c2, 0: CNTP_TVAL, where the upper half of the register is not the program's. */
	before = timer_counter(TIMER_PHYSICAL);
	user.x[2] = 0xffffffff00001000;
	A32(0xee0e2f12, SVC);
	run_until(EC_SVC32, PSTATE_USER, 8);
	now = timer_cval(TIMER_PHYSICAL);
	GUEST_CHECK(now >= before + 0x1000 && now <= timer_counter(TIMER_PHYSICAL) + 0x1000);
}

/* A physical counter of its own is one that traps. */
TEST(timers)
{
	struct vm *vm = vm_with_user(guest_timers);
	struct kvm_arm_counter_offset offset = { .counter_offset = 0x123456 };

	CHECK_OK(ioctl(vm->fd, KVM_ARM_SET_COUNTER_OFFSET, &offset));
	vcpu_done(&vm->vcpus[0]);
}

static void on_timer(struct guest_regs *regs)
{
	GUEST_CHECK_EQ(gic_ack(), PPI_VTIMER);
	GUEST_CHECK_EQ(regs->pstate & 0x1f, PSTATE_USER);
	/* Again and again: the first may come before the program has come to wait. */
	timer_set_cval(TIMER_VIRTUAL, timer_counter(TIMER_VIRTUAL) + guest_us(500));
	gic_eoi(PPI_VTIMER);
	WRITE_ONCE(ticks, ticks + 1);
}

/* Runs a program that waits until the timer has interrupted it: a WFI may end for any reason. */
static void wait_for_timer(u64 pstate, u64 bytes)
{
	u64 before = ticks;

	guest_irq_handler = on_timer;
	timer_set_cval(TIMER_VIRTUAL, timer_counter(TIMER_VIRTUAL) + guest_us(500));
	timer_set_ctl(TIMER_VIRTUAL, TIMER_ENABLE);
	do {
		run_until(EC_SVC32, pstate, bytes);
	} while (READ_ONCE(ticks) == before);
	timer_set_ctl(TIMER_VIRTUAL, 0);
}

static void guest_waits(u64 arg)
{
	gic_init_distributor();
	gic_init_cpu();
	gic_enable(PPI_VTIMER);
	write_sysreg(read_sysreg(sctlr_el1) | 1 << 16 | 1 << 18, sctlr_el1); /* nTWI, nTWE: EL0 may wait */
	isb();
	/* WFI, of both sets; WFE */
	A32(0xe320f003, SVC);
	wait_for_timer(PSTATE_USER, 8);
	T32(0xbf30, SVC_T);
	wait_for_timer(PSTATE_T32, 4);
	A32(0xe320f002, SVC);
	wait_for_timer(PSTATE_USER, 8);
	/* Not in a block: of a WFI that traps there, QEMU reports what comes after it in the block. */
	/* WFINE, which does nothing: no timer would end it. */
	A32(0x1320f003, SVC);
	run_until(EC_SVC32, PSTATE_USER | ZERO, 8);
}

TEST(waits)
{
	struct vm *vm = vm_with_user(guest_waits);

	vcpu_done(&vm->vcpus[0]);
}

static void guest_undefined(u64 arg)
{
	/* What an implementation has for itself: MRC p15, 0, r0, c15, c0, 0. The exception comes to the vectors for AArch32. */
	A32(0xee1f0f10, SVC);
	run_until(0, PSTATE_USER, 0);
	GUEST_CHECK_EQ(user.esr, 1 << 25);
	GUEST_CHECK_EQ(user.pstate & 0x1f, PSTATE_USER);
	/* With the condition of a block, T32: CMP r2, r2; IT EQ; MRCEQ. */
	T32(0x4292, 0xbf08, 0xee1f, 0x0f10, SVC_T);
	run_until(0, PSTATE_T32, 4);
	GUEST_CHECK_EQ(user.esr, 1 << 25);
	/* HVC is no instruction of a program's. */
	A32(0xe1400070, SVC);
	run_until(0, PSTATE_USER, 0);
	/* One whose condition fails is none. */
	A32(0x1e1f0f10, SVC);
	run_until(EC_SVC32, PSTATE_USER | ZERO, 8);
}

TEST(undefined)
{
	struct vm *vm = vm_with_user(guest_undefined);

	vcpu_done(&vm->vcpus[0]);
}

static void guest_floating_point(u64 arg)
{
	u64 fpcr;

	/* VMOV.F32 s0, #1.0; VADD.F32 s0, s0, s0; VMOV r0, s0: the registers are the guest's by then. */
	A32(0xeeb70a00, 0xee300a00, 0xee100a10, SVC);
	GUEST_SYNC(1);
	run_until(EC_SVC32, PSTATE_USER, 16);
	GUEST_CHECK_EQ(user.x[0], 0x40000000);
	fpcr = read_sysreg(fpcr);
	GUEST_CHECK_EQ(fpcr, 0);
}

TEST(floating_point)
{
	struct vm *vm = vm_with_user(guest_floating_point);

	vcpu_sync(&vm->vcpus[0], 1);
	vcpu_done(&vm->vcpus[0]);
}

static void guest_interrupted(u64 arg)
{
	/* Loops until the host has it do something else: ADD r3, r3, #1; B . - 4 */
	A32(0xe2833001, 0xeafffffd, SVC);
	GUEST_SYNC(1);
	run_until(EC_SVC32, PSTATE_USER, 12);
}

/* Stopped in its loop by a signal it is seen there, is moved behind it, and goes on. */
TEST(state_that_userspace_sees)
{
	struct vm *vm = vm_with_user(guest_interrupted);
	struct vcpu *vcpu = &vm->vcpus[0];
	u64 pstate, pc;

	vcpu_sync(vcpu, 1);
	kick_setup();
	kick_after(20000);
	CHECK_EQ(vcpu_run(vcpu), -EINTR);
	pstate = reg_get(vcpu, PSTATE);
	CHECK_EQ(pstate & 0x3f, PSTATE_USER);
	pc = reg_get(vcpu, CORE_REG(regs.pc));
	CHECK(pc == CODE || pc == CODE + 4);
	CHECK(reg_get(vcpu, CORE_REG(regs.regs[3])) > 0);
	/* Each mode of the kernel's is none that a program may be in. */
	for (u64 mode = 0x11; mode < 0x20; mode++) {
		pstate = (pstate & ~0x1fUL) | mode;
		EXPECT_ERRNO(reg_try_set(vcpu, PSTATE, &pstate), EINVAL);
	}
	reg_set(vcpu, PSTATE, PSTATE_USER);
	reg_set(vcpu, CORE_REG(regs.pc), CODE + 8);
	vcpu_done(vcpu);
}

/* Where the VMM has told the guest that there is no AArch32, a kernel that goes there all the same does not run on. */
TEST(not_where_it_is_hidden)
{
	struct vm *vm = vm_with_user(guest_devices);
	struct vcpu *vcpu = &vm->vcpus[0];
	u64 pfr0 = reg_get(vcpu, ID_AA64PFR0_EL1);

	if (ktap_on_kvm())
		SKIP("KVM runs it");
	reg_set(vcpu, ID_AA64PFR0_EL1, (pfr0 & ~0xfUL) | 1);
	EXPECT_ERRNO(reg_try_set(vcpu, PSTATE, &(u64){ PSTATE_USER }), EINVAL);
	CHECK_EQ(vcpu_run(vcpu), 0);
	CHECK_EQ(vcpu->run->exit_reason, KVM_EXIT_FAIL_ENTRY);
}
