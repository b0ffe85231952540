// SPDX-License-Identifier: GPL-2.0
/* A vCPU that userspace has suspended (KVM_MP_STATE_SUSPENDED) wakes up for an interrupt that it would take, and only then. */
#include <unistd.h>

#include "abi.h"
#include "gic.h"
#include "psci.h"
#include "timer.h"

static u64 taken, arm_timer, busy_rounds, stop;

static void on_irq(struct guest_regs *regs)
{
	u32 intid = gic_ack();

	if (intid == GIC_SPURIOUS)
		return;
	timer_set_ctl(TIMER_VIRTUAL, 0);
	gic_eoi(intid);
	taken++;
}

/* The second vCPU sleeps, with SPI 1 enabled and masked in PSTATE only; the first one is busy with the controller. */
static void guest_suspended(u64 cpu)
{
	if (cpu == 0) {
		guest_irq_handler = on_irq;
		gic_init_distributor();
		for (u32 i = 1; i < 6; i++) {
			gic_edge(SPI(i), true);
			gic_route(SPI(i), 1);
		}
		gic_enable(SPI(1));
		GUEST_SYNC(1);
		/* What needs the other vCPU's state: it is kept out of the guest for each of these. */
		while (!READ_ONCE(stop)) {
			u64 other = GUEST_GICR + GUEST_GICR_STRIDE;

			gic_set_active(SPI(4), true);
			gic_set_active(SPI(4), false);
			gic_set_pending(SPI(5), true);
			gic_set_pending(SPI(5), false);
			mmio_write32(other + GICR_ISACTIVER0, 1 << 21);
			mmio_write32(other + GICR_ICACTIVER0, 1 << 21);
			mmio_read32(other + GICR_ISPENDR0);
			mmio_write32(GUEST_GICD + GICD_CTLR, GICD_CTLR_ARE);
			mmio_write32(GUEST_GICD + GICD_CTLR, GICD_CTLR_ARE | GICD_CTLR_GRP1A);
			gic_sgi(7, 2);
			WRITE_ONCE(busy_rounds, busy_rounds + 1);
		}
		return;
	}
	gic_init_cpu();
	gic_enable(PPI_VTIMER);
	for (u64 i = 2;; i++) {
		GUEST_SYNC(i);
		if (READ_ONCE(arm_timer)) {
			timer_set_cval(TIMER_VIRTUAL, guest_now() + guest_us(arm_timer));
			timer_set_ctl(TIMER_VIRTUAL, TIMER_ENABLE);
			continue;
		}
		irq_enable();
		isb();
		irq_disable();
	}
}

static void set_state(struct vcpu *vcpu, u32 state)
{
	struct kvm_mp_state mp = { state };

	CHECK_OK(ioctl(vcpu->fd, KVM_SET_MP_STATE, &mp));
}

static u32 state(struct vcpu *vcpu)
{
	struct kvm_mp_state mp;

	CHECK_OK(ioctl(vcpu->fd, KVM_GET_MP_STATE, &mp));
	return mp.mp_state;
}

static bool is_wakeup(struct vcpu *vcpu)
{
	return vcpu->run->exit_reason == KVM_EXIT_SYSTEM_EVENT && vcpu->run->system_event.type == KVM_SYSTEM_EVENT_WAKEUP;
}

/* One KVM_RUN on a thread of its own. */
static struct {
	pthread_t thread;
	volatile pid_t tid;
	volatile bool returned;
	int result;
} run;

static void *run_thread(void *arg)
{
	run.tid = gettid();
	run.result = vcpu_run(arg);
	run.returned = true;
	return NULL;
}

static void run_start(struct vcpu *vcpu)
{
	run.returned = false;
	run.tid = 0;
	CHECK(pthread_create(&run.thread, NULL, run_thread, vcpu) == 0);
	while (!run.tid)
		sleep_us(100);
}

static void stays_asleep(const char *why)
{
	/* What it may have been woken for, it has seen by then. */
	if (!falls_asleep(getpid(), run.tid) || run.returned)
		FAIL("%s woke it up", why);
}

static void run_end(void)
{
	CHECK(pthread_join(run.thread, NULL) == 0);
}

static struct vm *set_up(void)
{
	struct vm *vm = vm_create(.main = guest_suspended, .gic = true, .vcpus = 2);

	vcpu_sync(&vm->vcpus[0], 1);
	vcpu_sync(&vm->vcpus[1], 2);
	return vm;
}

static void expect_wakeup(struct vcpu *vcpu)
{
	CHECK_EQ(vcpu_run(vcpu), 0);
	CHECK(is_wakeup(vcpu));
	CHECK_EQ(state(vcpu), KVM_MP_STATE_SUSPENDED);
}

/* It lasts until userspace ends it. */
TEST(pending_already)
{
	struct vm *vm = set_up();
	struct vcpu *vcpu = &vm->vcpus[1];

	vm_irq(vm, SPI(1), 1);
	set_state(vcpu, KVM_MP_STATE_SUSPENDED);
	CHECK_EQ(state(vcpu), KVM_MP_STATE_SUSPENDED);
	for (int i = 0; i < 3; i++)
		expect_wakeup(vcpu);
	CHECK_EQ(VM_GLOBAL(vm, taken), 0);
	set_state(vcpu, KVM_MP_STATE_RUNNABLE);
	vcpu_sync(vcpu, 3);
	CHECK_EQ(VM_GLOBAL(vm, taken), 1);
}

TEST(wakes_for_its_interrupt)
{
	struct vm *vm = set_up();
	struct vcpu *vcpu = &vm->vcpus[1];

	set_state(vcpu, KVM_MP_STATE_SUSPENDED);
	run_start(vcpu);
	stays_asleep("nothing");
	vm_irq(vm, SPI(1), 1);
	run_end();
	CHECK_EQ(run.result, 0);
	CHECK(is_wakeup(vcpu));
	expect_wakeup(vcpu); /* it still would take it */
	set_state(vcpu, KVM_MP_STATE_RUNNABLE);
	vcpu_sync(vcpu, 3);
	CHECK_EQ(VM_GLOBAL(vm, taken), 1);
}

TEST(wakes_for_its_timer)
{
	struct vm *vm = set_up();
	struct vcpu *vcpu = &vm->vcpus[1];

	VM_GLOBAL(vm, arm_timer) = 300000;
	vcpu_sync(vcpu, 3);
	VM_GLOBAL(vm, arm_timer) = 0;
	set_state(vcpu, KVM_MP_STATE_SUSPENDED);
	expect_wakeup(vcpu);
	set_state(vcpu, KVM_MP_STATE_RUNNABLE);
	vcpu_sync(vcpu, 4);
	CHECK_EQ(VM_GLOBAL(vm, taken), 1);
}

/* Nothing else does: neither interrupts that it would not take, nor what another vCPU wants of it. */
TEST(sleeps_through_everything_else)
{
	struct vm *vm = set_up();
	struct vcpu *vcpu = &vm->vcpus[1];
	u64 before;

	set_state(vcpu, KVM_MP_STATE_SUSPENDED);
	run_start(vcpu);
	stays_asleep("nothing");
	vm_irq(vm, SPI(2), 1);
	stays_asleep("a disabled SPI");
	vm_ppi(vcpu, 22, 1);
	stays_asleep("a disabled PPI");
	vcpu_start(&vm->vcpus[0]);
	for (before = VM_GLOBAL(vm, busy_rounds); VM_GLOBAL(vm, busy_rounds) < before + 50 && !run.returned;)
		sleep_us(1000);
	VM_GLOBAL(vm, stop) = 1;
	vcpu_join(&vm->vcpus[0]);
	stays_asleep("an access to its state by another vCPU");
	for (int i = 0; i < 5; i++) {
		vm_irq(vm, SPI(3), 1);
		vm_irq(vm, SPI(3), 0);
	}
	stays_asleep("an edge of a disabled SPI");
	vm_irq(vm, SPI(1), 1);
	run_end();
	CHECK_EQ(run.result, 0);
	CHECK(is_wakeup(vcpu));
}

/* A signal ends KVM_RUN, and that is no wake-up. */
TEST(signal)
{
	struct vm *vm = set_up();
	struct vcpu *vcpu = &vm->vcpus[1];

	kick_setup();
	set_state(vcpu, KVM_MP_STATE_SUSPENDED);
	for (int i = 0; i < 5; i++) {
		run_start(vcpu);
		stays_asleep("nothing");
		kick(run.thread);
		run_end();
		CHECK_EQ(run.result, -EINTR);
		CHECK_EQ(vcpu->run->exit_reason, KVM_EXIT_INTR);
		CHECK_EQ(state(vcpu), KVM_MP_STATE_SUSPENDED);
	}
	vcpu->run->immediate_exit = 1;
	CHECK_EQ(vcpu_run(vcpu), -EINTR);
	vcpu->run->immediate_exit = 0;
	run_start(vcpu);
	stays_asleep("the signal before");
	vm_irq(vm, SPI(1), 1);
	run_end();
	CHECK(is_wakeup(vcpu));
}

static void guest_plain(u64 arg)
{
	for (u64 i = 1;; i++)
		GUEST_SYNC(i);
}

static void cpu_line(struct vm *vm, u32 number, u32 level)
{
	struct kvm_irq_level line = { .irq = KVM_ARM_IRQ_TYPE_CPU << KVM_ARM_IRQ_TYPE_SHIFT | number, .level = level };

	CHECK_OK(ioctl(vm->fd, KVM_IRQ_LINE, &line));
}

/* With an interrupt controller in userspace: its lines. */
TEST(lines_of_userspace)
{
	struct vm *vm = vm_create(.main = guest_plain);
	struct vcpu *vcpu = &vm->vcpus[0];

	vcpu_sync(vcpu, 1);
	set_state(vcpu, KVM_MP_STATE_SUSPENDED);
	for (u32 line = KVM_ARM_IRQ_CPU_IRQ; line <= KVM_ARM_IRQ_CPU_FIQ; line++) {
		run_start(vcpu);
		stays_asleep("nothing");
		for (u32 i = KVM_ARM_IRQ_CPU_IRQ; i <= KVM_ARM_IRQ_CPU_FIQ; i++)
			cpu_line(vm, i, 0);
		stays_asleep("a line that is lowered");
		cpu_line(vm, line, 1);
		run_end();
		CHECK_EQ(run.result, 0);
		CHECK(is_wakeup(vcpu));
		cpu_line(vm, line, 0);
	}
	set_state(vcpu, KVM_MP_STATE_RUNNABLE);
	vcpu_sync(vcpu, 2);
}
