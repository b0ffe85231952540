// SPDX-License-Identifier: GPL-2.0
/* KVM_SET_GUEST_DEBUG: breakpoints, watchpoints, BRK and single steps of a debugger in the VMM. */
#include "abi.h"
#include "vm.h"

#define DEVICE 0x0a000000UL
#define EC(vcpu) ((vcpu)->run->debug.arch.hsr >> 26)
#define EC_BREAKPOINT 0x30
#define EC_STEP 0x32
#define EC_WATCHPOINT 0x34
#define EC_BRK 0x3c
#define PSTATE_SS (1UL << 21)

static int debug_from_outside(struct vcpu *vcpu, u32 control)
{
	struct kvm_guest_debug debug = { .control = control };

	return ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, &debug);
}

static void check_stop(struct vcpu *vcpu, u32 ec, u64 pc)
{
	CHECK_EQ(vcpu_run(vcpu), 0);
	CHECK_EQ(vcpu->run->exit_reason, KVM_EXIT_DEBUG);
	CHECK_EQ(EC(vcpu), ec);
	CHECK_EQ(vcpu->run->debug.arch.hsr_high, 0);
	CHECK(vcpu->run->flags & KVM_DEBUG_ARCH_HSR_HIGH_VALID);
	CHECK_EQ(reg_get(vcpu, CORE_REG(regs.pc)), pc);
}

/* Instructions that the CPU executes, that the vector does, that the kernel and that userspace does. */
extern const char steps_begin[], steps_device[], steps_end[];

static u64 word;

static void guest_steps(u64 arg)
{
	register u64 x0 __asm__("x0") = 0x80000000; /* SMCCC_VERSION */
	u64 id, loaded = 7, device = DEVICE;

	GUEST_SYNC(1);
	__asm__ volatile(".global steps_begin, steps_device, steps_end\n"
			 "steps_begin: nop\n"
			 "	mrs	%[id], id_aa64mmfr0_el1\n"
			 "	hvc	#0\n"
			 "	ldr	%[loaded], [%[word]]\n"
			 "	mrs	%[id], mdscr_el1\n"
			 "	b	steps_device\n"
			 "steps_device: ldr	%w[loaded], [%[device]]\n"
			 "	dc	isw, xzr\n"
			 "	add	%[loaded], %[loaded], #1\n"
			 "steps_end: nop\n"
			 : "+r"(x0), [id] "=&r"(id), [loaded] "+&r"(loaded)
			 : [word] "r"(&word), [device] "r"(device)
			 : "x1", "x2", "x3", "memory");
	GUEST_CHECK_EQ(loaded, 0x12345679);
	GUEST_CHECK(x0 >= 0x10001);
	GUEST_SYNC(2);
}

TEST(single_step)
{
	struct vm *vm = vm_create(.main = guest_steps);
	struct vcpu *vcpu = &vm->vcpus[0];
	u64 pc = (u64)steps_begin;

	vcpu_sync(vcpu, 1);
	CHECK_OK(debug_from_outside(vcpu, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP));
	/* What is left of telling that. */
	for (int i = 0; i < 100 && reg_get(vcpu, CORE_REG(regs.pc)) != pc; i++) {
		CHECK_EQ(vcpu_run(vcpu), 0);
		CHECK_EQ(vcpu->run->exit_reason, KVM_EXIT_DEBUG);
	}
	for (pc += 4; pc <= (u64)steps_end; pc += 4) {
		if (pc == (u64)steps_device + 4) {
			CHECK_EQ(vcpu_run(vcpu), 0);
			CHECK_EQ(vcpu->run->exit_reason, KVM_EXIT_MMIO);
			*(u32 *)vcpu->run->mmio.data = 0x12345678;
			/* Userspace has other things to do: the step is not lost. */
			vcpu->run->immediate_exit = 1;
			CHECK_EQ(vcpu_run(vcpu), -EINTR);
			vcpu->run->immediate_exit = 0;
		}
		check_stop(vcpu, EC_STEP, pc);
		CHECK_EQ(reg_get(vcpu, CORE_REG(regs.pstate)) & PSTATE_SS, 0); /* the guest's own is what it was */
	}
	CHECK_OK(debug_from_outside(vcpu, 0));
	vcpu_sync(vcpu, 2);
	vcpu_done(vcpu);
}

static u64 breaks;
extern const char brk_here[];

static void on_brk(struct guest_regs *regs)
{
	breaks++;
	regs->pc += 4;
}

static void guest_brk(u64 arg)
{
	guest_sync_handlers[EC_BRK] = on_brk;
	for (;;) {
		__asm__ volatile(".global brk_here\nbrk_here: brk #0x123");
		GUEST_SYNC2(1, breaks);
	}
}

TEST(software_breakpoint)
{
	struct vm *vm = vm_create(.main = guest_brk);
	struct vcpu *vcpu = &vm->vcpus[0];

	CHECK_EQ(vcpu_sync(vcpu, 1), 1); /* the guest's own */
	CHECK_OK(debug_from_outside(vcpu, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP));
	for (int i = 0; i < 2; i++) {
		check_stop(vcpu, EC_BRK, (u64)brk_here);
		CHECK_EQ(vcpu->run->debug.arch.hsr & 0xffff, 0x123);
	}
	reg_set(vcpu, CORE_REG(regs.pc), (u64)brk_here + 4);
	CHECK_EQ(vcpu_sync(vcpu, 1), 1); /* it has seen nothing */
	CHECK_EQ(vcpu->run->flags, 0); /* of another exit */
	CHECK_OK(debug_from_outside(vcpu, 0));
	CHECK_EQ(vcpu_sync(vcpu, 1), 2);
}

__attribute__((noinline, noclone)) u64 place(u64 x);
u64 place(u64 x)
{
	__asm__ volatile("" : "+r"(x));
	return x + 1;
}

static u64 watched, own_hits;

static void on_own_breakpoint(struct guest_regs *regs)
{
	own_hits++;
	regs->pstate |= 1 << 9; /* debug exceptions masked: on it goes */
}

/* Has a breakpoint of its own in the same register, at the same place. */
static void guest_watched(u64 arg)
{
	guest_sync_handlers[EC_BREAK_CUR] = on_own_breakpoint;
	write_sysreg(0, oslar_el1);
	write_sysreg((u64)place, dbgbvr0_el1);
	write_sysreg(0x1e5 | 1 << 1, dbgbcr0_el1);
	write_sysreg(read_sysreg(mdscr_el1) | 1 << 15 | 1 << 13, mdscr_el1);
	isb();
	for (;;) {
		GUEST_SYNC2(1, own_hits);
		GUEST_CHECK_EQ(place(1), 2);
		WRITE_ONCE(watched, 5);
		GUEST_CHECK_EQ(read_sysreg(dbgbvr0_el1), (u64)place);
		GUEST_CHECK_EQ(read_sysreg(dbgbcr0_el1), 0x1e5 | 1 << 1);
		__asm__ volatile("msr daifclr, #8");
	}
}

TEST(hardware_points)
{
	struct vm *vm = vm_create(.main = guest_watched);
	struct vcpu *vcpu = &vm->vcpus[0];
	struct kvm_guest_debug debug = { .control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW };
	int last = cap(KVM_CAP_GUEST_DEBUG_HW_BPS) - 1, last_watch = cap(KVM_CAP_GUEST_DEBUG_HW_WPS) - 1;

	CHECK(last > 0 && last < 16 && last_watch > 0 && last_watch < 16);
	CHECK_EQ(vcpu_sync(vcpu, 1), 0);
	CHECK_EQ(vcpu_sync(vcpu, 1), 0); /* the first time they were masked */
	CHECK_EQ(vcpu_sync(vcpu, 1), 1);
	debug.arch.dbg_bvr[last] = (u64)place;
	debug.arch.dbg_bcr[last] = 0x1e5 | 1 << 1;
	debug.arch.dbg_wvr[last_watch] = (u64)&watched;
	debug.arch.dbg_wcr[last_watch] = 0xff << 5 | 3 << 3 | 3 << 1 | 1;
	for (int i = 0; i < 3; i++) {
		CHECK_OK(ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, &debug));
		/* It stops before the instruction, again and again: the debugger steps over it. */
		check_stop(vcpu, EC_BREAKPOINT, (u64)place);
		check_stop(vcpu, EC_BREAKPOINT, (u64)place);
		CHECK_OK(debug_from_outside(vcpu, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP));
		check_stop(vcpu, EC_STEP, (u64)place + 4);
		CHECK_OK(ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, &debug));
		CHECK_EQ(vcpu_run(vcpu), 0);
		CHECK_EQ(vcpu->run->exit_reason, KVM_EXIT_DEBUG);
		CHECK_EQ(EC(vcpu), EC_WATCHPOINT);
		CHECK_EQ(vcpu->run->debug.arch.far, (u64)&watched);
		CHECK_OK(debug_from_outside(vcpu, KVM_GUESTDBG_ENABLE));
		CHECK_EQ(vcpu_sync(vcpu, 1), 1); /* its own is not there meanwhile */
	}
	CHECK_OK(debug_from_outside(vcpu, 0));
	CHECK_EQ(vcpu_sync(vcpu, 1), 2);
}

TEST(errors)
{
	struct vm *vm = vm_create(.main = guest_brk);
	struct vcpu *vcpu = &vm->vcpus[0];

	CHECK_EQ(cap(KVM_CAP_SET_GUEST_DEBUG), 1);
	CHECK_EQ(cap(KVM_CAP_SET_GUEST_DEBUG2),
		 KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_SW_BP | KVM_GUESTDBG_USE_HW);
	EXPECT_ERRNO(debug_from_outside(vcpu, 1 << 20 | KVM_GUESTDBG_ENABLE), EINVAL);
	EXPECT_ERRNO(debug_from_outside(vcpu, 4), EINVAL);
	EXPECT_ERRNO(ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, BAD_POINTER), EFAULT);
	CHECK_OK(debug_from_outside(vcpu, KVM_GUESTDBG_USE_SW_BP)); /* without ENABLE: none */
	CHECK_EQ(vcpu_sync(vcpu, 1), 1);
}
