// SPDX-License-Identifier: GPL-2.0
/* KVM_RUN and signals, immediate_exit, and vCPUs that change threads. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gic.h"
#include "timer.h"
#include "vm.h"

static u64 progress, stop;

static void guest_spin(u64 arg)
{
	while (!READ_ONCE(stop))
		WRITE_ONCE(progress, progress + 1);
}

static void guest_wfi(u64 arg)
{
	while (!READ_ONCE(stop))
		wfi();
}

static volatile int caught;

static void count_signal(int signal)
{
	caught++;
}

static void handle(int signal, int flags)
{
	struct sigaction action = { .sa_handler = count_signal, .sa_flags = flags };

	CHECK_OK(sigaction(signal, &action, NULL));
}

TEST(ends_a_busy_guest)
{
	struct vm *vm = vm_create(.main = guest_spin);
	struct vcpu *vcpu = &vm->vcpus[0];

	for (int i = 0; i < 5; i++) {
		u64 before = VM_GLOBAL(vm, progress);

		/* On a busy machine the signal may come before the guest's first step. */
		for (int j = 0; j < 50 && VM_GLOBAL(vm, progress) == before; j++) {
			kick_after(30000);
			CHECK_EQ(vcpu_run(vcpu), -EINTR);
			CHECK_EQ(vcpu->run->exit_reason, KVM_EXIT_INTR);
		}
		CHECK(VM_GLOBAL(vm, progress) > before);
	}
	VM_GLOBAL(vm, stop) = 1;
	vcpu_done(vcpu);
}

TEST(ends_a_sleeping_guest)
{
	struct vm *vm = vm_create(.main = guest_wfi, .gic = true);
	struct vcpu *vcpu = &vm->vcpus[0];
	u64 start = now_us();

	for (int i = 0; i < 5; i++) {
		kick_after(30000);
		CHECK_EQ(vcpu_run(vcpu), -EINTR);
		CHECK_EQ(vcpu->run->exit_reason, KVM_EXIT_INTR);
	}
	CHECK(now_us() - start >= 5 * 30000);
}

/* A handler that was installed with SA_RESTART runs, and KVM_RUN ends all the same. */
TEST(no_restart)
{
	struct vm *vm = vm_create(.main = guest_spin);

	kick_after(50000);
	handle(SIGUSR1, SA_RESTART);
	CHECK_EQ(vcpu_run(&vm->vcpus[0]), -EINTR);
	CHECK_EQ(caught, 1);
}

/* A signal that is ignored does not end it: the vCPU runs until the one that counts. */
TEST(ignored_signal)
{
	struct vm *vm = vm_create(.main = guest_spin);
	pid_t self = getpid(), child;

	signal(SIGUSR2, SIG_IGN);
	handle(SIGUSR1, 0);
	child = CHECK_OK(fork());
	if (child == 0) {
		sleep_us(50000);
		kill(self, SIGUSR2);
		sleep_us(50000);
		kill(self, SIGUSR1);
		_exit(0);
	}
	CHECK_EQ(vcpu_run(&vm->vcpus[0]), -EINTR);
	CHECK_EQ(caught, 1);
}

static void set_mask(struct vcpu *vcpu, u64 blocked)
{
	struct {
		struct kvm_signal_mask head;
		u64 set;
	} __attribute__((packed)) mask = { { .len = 8 }, blocked };

	CHECK_OK(ioctl(vcpu->fd, KVM_SET_SIGNAL_MASK, &mask));
}

/* The mask of KVM_SET_SIGNAL_MASK holds in KVM_RUN alone: blocked outside, taken inside. */
TEST(mask_opens_a_signal)
{
	struct vm *vm = vm_create(.main = guest_spin);
	struct vcpu *vcpu = &vm->vcpus[0];
	sigset_t block, pending;

	handle(SIGUSR1, 0);
	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	CHECK_OK(sigprocmask(SIG_BLOCK, &block, NULL));
	set_mask(vcpu, 0);
	raise(SIGUSR1);
	CHECK_EQ(caught, 0);
	CHECK_EQ(vcpu_run(vcpu), -EINTR); /* at once: it was pending */
	CHECK_EQ(VM_GLOBAL(vm, progress), 0);
	CHECK_EQ(caught, 0); /* it ended KVM_RUN, and is still blocked and pending here */
	CHECK_OK(sigpending(&pending));
	CHECK(sigismember(&pending, SIGUSR1));
	CHECK_OK(sigprocmask(SIG_UNBLOCK, &block, NULL));
	CHECK_EQ(caught, 1);
}

TEST(mask_closes_a_signal)
{
	struct vm *vm = vm_create(.main = guest_spin);
	struct vcpu *vcpu = &vm->vcpus[0];
	pid_t self = getpid(), child;

	handle(SIGUSR1, 0);
	handle(SIGUSR2, 0);
	set_mask(vcpu, 1UL << (SIGUSR1 - 1));
	child = CHECK_OK(fork());
	if (child == 0) {
		sleep_us(50000);
		kill(self, SIGUSR1);
		sleep_us(50000);
		kill(self, SIGUSR2);
		_exit(0);
	}
	CHECK_EQ(vcpu_run(vcpu), -EINTR);
	CHECK_EQ(caught, 2); /* both, after the second one had ended it */
	/* Without a mask again, the process's own counts. */
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_SIGNAL_MASK, NULL));
	kick_after(20000);
	CHECK_EQ(vcpu_run(vcpu), -EINTR);
}

/* A pending signal is looked at before the guest runs a single instruction. */
TEST(pending_before_entry)
{
	struct vm *vm = vm_create(.main = guest_spin);
	struct vcpu *vcpu = &vm->vcpus[0];

	vcpu->run->immediate_exit = 1;
	for (int i = 0; i < 100; i++)
		CHECK_EQ(vcpu_run(vcpu), -EINTR);
	CHECK_EQ(VM_GLOBAL(vm, progress), 0);
	CHECK_EQ(reg_get(vcpu, CORE_REG(regs.pc)), (u64)guest_boot);
}

/* The kick that VMMs use: another thread sets immediate_exit and sends the signal; none gets lost. */
static volatile int phase;

static void leave_now(int signal)
{
	caught++;
}

static struct vcpu *kicked;

static void *runner(void *arg)
{
	for (int i = 1; i <= 300; i++) {
		while (vcpu_run(kicked) == 0)
			;
		kicked->run->immediate_exit = 0;
		__atomic_store_n(&phase, i, __ATOMIC_SEQ_CST);
		while (__atomic_load_n(&phase, __ATOMIC_SEQ_CST) == i)
			;
	}
	return NULL;
}

TEST(immediate_exit_with_signal)
{
	struct sigaction action = { .sa_handler = leave_now };
	struct vm *vm = vm_create(.main = guest_spin);
	pthread_t thread;

	CHECK_OK(sigaction(SIGUSR1, &action, NULL));
	kicked = &vm->vcpus[0];
	CHECK(pthread_create(&thread, NULL, runner, NULL) == 0);
	for (int i = 1; i <= 300; i++) {
		for (volatile int spin = i * 37 % 1000; spin; spin--)
			;
		kicked->run->immediate_exit = 1;
		CHECK(pthread_kill(thread, SIGUSR1) == 0);
		while (__atomic_load_n(&phase, __ATOMIC_SEQ_CST) != i)
			;
		__atomic_store_n(&phase, -i, __ATOMIC_SEQ_CST);
	}
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK(caught > 0 && caught <= 300); /* two may have become one */
}

/* Stopped and continued as a whole, the process goes on. */
TEST(stop_and_continue)
{
	struct vm *vm = vm_create(.main = guest_spin);
	struct vcpu *vcpu = &vm->vcpus[0];
	pid_t self = getpid(), child = CHECK_OK(fork());
	u64 before;

	if (child == 0) {
		for (int i = 0; i < 3; i++) {
			sleep_us(20000);
			kill(self, SIGSTOP);
			sleep_us(20000);
			kill(self, SIGCONT);
		}
		_exit(0);
	}
	kick_after(300000);
	while (vcpu_run(vcpu) == -EINTR && waitpid(child, NULL, WNOHANG) == 0)
		;
	before = VM_GLOBAL(vm, progress);
	for (int j = 0; j < 50 && VM_GLOBAL(vm, progress) == before; j++) {
		kick_after(20000);
		vcpu_run(vcpu);
	}
	CHECK(VM_GLOBAL(vm, progress) > before);
}

/* A vCPU belongs to whoever calls KVM_RUN; one at a time, the others wait. */
static u64 turns;

static void guest_turns(u64 arg)
{
	for (;;) {
		turns++;
		GUEST_SYNC(turns);
	}
}

static void *one_turn(void *arg)
{
	struct vcpu *vcpu = arg;
	struct guest_message m = vcpu_next(vcpu);

	CHECK_EQ(m.command, GUEST_CMD_SYNC);
	return NULL;
}

TEST(many_threads_in_turn)
{
	struct vm *vm = vm_create(.main = guest_turns);
	pthread_t thread;

	for (u64 i = 1; i <= 50; i++) {
		CHECK(pthread_create(&thread, NULL, one_turn, &vm->vcpus[0]) == 0);
		CHECK(pthread_join(thread, NULL) == 0);
		CHECK_EQ(VM_GLOBAL(vm, turns), i);
	}
}

/* A signal storm while the guest works with timers: no result is wrong and no tick is lost. */
static u64 ticks;

static void on_tick(struct guest_regs *regs)
{
	u32 intid = gic_ack();

	if (intid == GIC_SPURIOUS)
		return;
	ticks++;
	timer_set_cval(TIMER_VIRTUAL, timer_counter(TIMER_VIRTUAL) + guest_us(500));
	gic_eoi(intid);
}

static void guest_work(u64 arg)
{
	u64 sum = 0;

	guest_irq_handler = on_tick;
	gic_init_distributor();
	gic_init_cpu();
	gic_enable(PPI_VTIMER);
	timer_set_cval(TIMER_VIRTUAL, 0);
	timer_set_ctl(TIMER_VIRTUAL, TIMER_ENABLE);
	irq_enable();
	while (READ_ONCE(ticks) < 200) {
		u64 x = 0;

		for (u64 i = 1; i <= 100; i++)
			x += i;
		GUEST_CHECK_EQ(x, 5050);
		sum += x;
		if (sum % 7 == 0)
			wfi();
	}
}

static volatile int storm_over;

static void *storm(void *arg)
{
	pthread_t target = *(pthread_t *)arg;

	while (!storm_over) {
		kick(target);
		sleep_us(200);
	}
	return NULL;
}

TEST(storm)
{
	struct vm *vm = vm_create(.main = guest_work, .gic = true);
	pthread_t self = pthread_self(), thread;

	kick_setup();
	CHECK(pthread_create(&thread, NULL, storm, &self) == 0);
	vcpu_done(&vm->vcpus[0]);
	storm_over = 1;
	pthread_join(thread, NULL);
}
