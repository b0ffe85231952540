// SPDX-License-Identifier: GPL-2.0
/*
 * How a vCPU waits in WFI: with the guest in the CPU as long as that is short and nobody else wants the CPU, then asleep. What a
 * guest and a VMM see is the same; which of the two it was, loft's counters tell.
 */
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "abi.h"
#include "gic.h"
#include "timer.h"

#define ROUNDS 200

static u64 got, sent, stop, period;
/* The guest goes on after ROUNDS until it is 0. */
static u64 on;

static void on_irq(struct guest_regs *regs)
{
	u32 intid = gic_ack();

	if (intid == timer_ppi(TIMER_VIRTUAL))
		timer_set_ctl(TIMER_VIRTUAL, 0);
	gic_eoi(intid);
	WRITE_ONCE(got, got + 1);
}

static void set_up(u64 cpu)
{
	guest_irq_handler = on_irq;
	if (cpu == 0)
		gic_init_distributor();
	gic_init_cpu();
	gic_enable(1);
	gic_enable(timer_ppi(TIMER_VIRTUAL));
}

/* In WFI until `got` is there. Interrupts are off, so that none is lost between the look and the WFI. */
static void wait_for(u64 count)
{
	while (READ_ONCE(got) < count) {
		wfi();
		irq_enable();
		isb();
		irq_disable();
	}
}

/* The second vCPU waits, the first sends: as soon as the last SGI was taken, so that many come early in the wait. */
static void guest_pair(u64 cpu)
{
	irq_disable();
	set_up(cpu);
	if (cpu) {
		GUEST_SYNC(1);
		for (u64 n = 1; n <= ROUNDS || READ_ONCE(on); n++) {
			WRITE_ONCE(sent, n); /* "send it" */
			wait_for(n);
		}
		WRITE_ONCE(stop, 1);
	} else {
		for (u64 n = 1; !READ_ONCE(stop); n = READ_ONCE(got) + 1) {
			if (READ_ONCE(sent) != n)
				continue;
			for (u64 i = 0; i < n % ROUNDS * 16; i++)
				__asm__ volatile("nop");
			gic_sgi(1, 1 << 1);
			while (READ_ONCE(got) < n && !READ_ONCE(stop))
				;
		}
	}
}

/*
 * Whether loft waits with the guest in the CPU: where there is FEAT_WFxT. Without, that depends on how the host's kernel preempts.
 */
static bool waits_in_vector(void)
{
	char line[1024];
	bool has = false;
	FILE *info = fopen("/proc/cpuinfo", "r");

	CHECK(info);
	while (!has && fgets(line, sizeof(line), info))
		has = !strncmp(line, "Features", 8) && strstr(line, " wfxt");
	fclose(info);
	return has && !ktap_on_kvm();
}

static u64 in_vector(int stats, bool successful)
{
	return stats_counter(stats, successful ? "halt_successful_in_vector" : "halt_attempted_in_vector");
}

static void pin(struct vcpu *vcpu, int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	CHECK(pthread_setaffinity_np(vcpu->thread, sizeof(set), &set) == 0);
}

static struct vm *start_pair(void)
{
	struct vm *vm = vm_create(.main = guest_pair, .vcpus = 2, .gic = true);

	VM_GLOBAL(vm, on) = true;
	vcpu_sync(&vm->vcpus[1], 1);
	for (int i = 1; i >= 0; i--) {
		vcpu_start(&vm->vcpus[i]);
		pin(&vm->vcpus[i], i);
	}
	return vm;
}

static void end_pair(struct vm *vm)
{
	VM_GLOBAL(vm, on) = false;
	for (int i = 0; i < 2; i++)
		vcpu_join(&vm->vcpus[i]);
	CHECK(VM_GLOBAL(vm, got) >= ROUNDS);
	CHECK_EQ(VM_GLOBAL(vm, got), VM_GLOBAL(vm, sent));
}

/*
 * Returns when a wait has ended in the CPU. On a busy machine nearly all take longer than they may, or are ended by interrupts of
 * the host's; where none ever ends so, the case's time does.
 */
static void until_in_vector(struct vcpu *vcpu)
{
	int stats;

	if (!waits_in_vector())
		return;
	stats = stats_of(vcpu->fd);
	while (!in_vector(stats, true))
		sleep_us(1000);
	close(stats);
}

TEST(an_sgi_ends_it)
{
	struct vm *vm;

	if (cpu_count() < 2)
		SKIP("it takes two CPUs");
	vm = start_pair();
	until_in_vector(&vm->vcpus[1]);
	end_pair(vm);
	if (!ktap_on_kvm()) {
		int stats = stats_of(vm->vcpus[1].fd);

		EXPECT(in_vector(stats, false) >= in_vector(stats, true));
		EXPECT(in_vector(stats, false) <= stats_counter(stats, "wfi_exit_stat"));
	}
}

/* The thread goes to another CPU, in whatever state its wait is. */
TEST(its_thread_is_moved_meanwhile)
{
	struct vm *vm;

	if (cpu_count() < 2)
		SKIP("it takes two CPUs");
	vm = start_pair();
	for (int i = 0; VM_GLOBAL(vm, got) < ROUNDS; i++) {
		pin(&vm->vcpus[1], i % cpu_count());
		sleep_us(i % 7 * 50);
	}
	end_pair(vm);
}

static void guest_timers(u64 cpu)
{
	irq_disable();
	set_up(cpu);
	for (u64 n = 1; n <= ROUNDS || READ_ONCE(on); n++) {
		u64 due = timer_counter(TIMER_VIRTUAL) + period;

		timer_set_cval(TIMER_VIRTUAL, due);
		timer_set_ctl(TIMER_VIRTUAL, TIMER_ENABLE);
		wait_for(n);
		GUEST_CHECK(timer_counter(TIMER_VIRTUAL) >= due);
	}
}

static void set_period(struct vm *vm, u64 us)
{
	u64 hz;

	__asm__("mrs %0, cntfrq_el0" : "=r"(hz));
	VM_GLOBAL(vm, period) = hz / 1000000 * us;
}

static struct vm *timers_of(u64 us)
{
	struct vm *vm = vm_create(.main = guest_timers, .gic = true);

	set_period(vm, us);
	return vm;
}

TEST(its_own_timer_ends_it)
{
	struct vm *vm = timers_of(50);

	VM_GLOBAL(vm, on) = true;
	vcpu_start(&vm->vcpus[0]);
	until_in_vector(&vm->vcpus[0]);
	VM_GLOBAL(vm, on) = false;
	vcpu_join(&vm->vcpus[0]);
	CHECK(VM_GLOBAL(vm, got) >= ROUNDS);
}

/* Waits that are long are soon not begun in the CPU any more: it is the host's, and may go to a deeper idle state. */
TEST_SECONDS(long_waits_give_the_cpu_away, 60)
{
	struct vm *vm = timers_of(20000);
	int stats = ktap_on_kvm() ? -1 : stats_of(vm->vcpus[0].fd);

	vcpu_done(&vm->vcpus[0]);
	CHECK_EQ(VM_GLOBAL(vm, got), ROUNDS);
	if (stats < 0)
		return;
	EXPECT(stats_counter(stats, "wfi_exit_stat") >= ROUNDS);
	EXPECT(stats_counter(stats, "halt_wakeup") >= ROUNDS / 2);
	EXPECT(in_vector(stats, false) <= ROUNDS / 4);
}

static int enable_halt_poll(struct vm *vm, u64 ns, u32 flags)
{
	struct kvm_enable_cap enable = { .cap = KVM_CAP_HALT_POLL, .flags = flags, .args[0] = ns };

	return ioctl(vm->fd, KVM_ENABLE_CAP, &enable);
}

/* KVM_CAP_HALT_POLL: the VMM says for how long a vCPU may keep its CPU while it waits. */
TEST(not_where_the_vmm_does_not_want_it)
{
	struct vm *vm = timers_of(50);

	CHECK_EQ(cap(KVM_CAP_HALT_POLL), 1);
	EXPECT_ERRNO(enable_halt_poll(vm, 1UL << 32, 0), EINVAL);
	EXPECT_ERRNO(enable_halt_poll(vm, 0, 1), EINVAL);
	CHECK_OK(enable_halt_poll(vm, 0, 0));
	vcpu_done(&vm->vcpus[0]);
	CHECK_EQ(VM_GLOBAL(vm, got), ROUNDS);
	if (!ktap_on_kvm()) {
		int stats = stats_of(vm->vcpus[0].fd);

		EXPECT_EQ(in_vector(stats, false), 0);
		EXPECT_EQ(stats_counter(stats, "halt_attempted_poll"), 0);
	}
}

static void guest_waits_for_ever(u64 cpu)
{
	irq_disable();
	set_up(cpu);
	GUEST_SYNC(1);
	for (;;)
		wfi();
}

/* A signal ends KVM_RUN, whenever in the wait it comes. It is open in there alone, so that none is lost. */
TEST(a_signal_ends_it)
{
	struct vm *vm = vm_create(.main = guest_waits_for_ever, .gic = true);
	struct vcpu *vcpu = &vm->vcpus[0];
	struct {
		struct kvm_signal_mask head;
		u64 set;
	} __attribute__((packed)) open = { { .len = 8 }, 0 };
	sigset_t usr1;
	int n;

	vcpu_sync(vcpu, 1);
	CHECK_OK(enable_halt_poll(vm, 10000000, 0));
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	CHECK_OK(sigprocmask(SIG_BLOCK, &usr1, NULL));
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_SIGNAL_MASK, &open));
	for (u64 us = 1; us < 1000; us += 13) {
		kick_after(us);
		CHECK_EQ(vcpu_run(vcpu), -EINTR);
		if (sigpending(&usr1) == 0 && sigismember(&usr1, SIGUSR1))
			CHECK_OK(sigwait(&usr1, &n));
		sigemptyset(&usr1);
		sigaddset(&usr1, SIGUSR1);
	}
}

static void *other_thread(void *arg)
{
	volatile u64 *turns = arg;

	pin_to_cpu(0);
	while (*turns < 100) {
		sleep_us(100);
		*turns += 1;
	}
	return NULL;
}

/* Another thread of the host's gets the CPU when it wants it, not when the guest's wait is over. */
TEST(a_thread_that_becomes_runnable_has_the_cpu)
{
	struct vm *vm = vm_create(.main = guest_waits_for_ever, .gic = true);
	struct vcpu *vcpu = &vm->vcpus[0];
	volatile u64 turns = 0;
	pthread_t other;

	vcpu_sync(vcpu, 1);
	CHECK_OK(enable_halt_poll(vm, 4000000000, 0));
	pin_to_cpu(0);
	CHECK(pthread_create(&other, NULL, other_thread, (void *)&turns) == 0);
	kick_setup();
	kick_after(3000000);
	CHECK_EQ(vcpu_run(vcpu), -EINTR);
	CHECK_EQ(turns, 100);
	CHECK(pthread_join(other, NULL) == 0);
}

/* An interrupt that the guest masks by PSTATE ends its WFI all the same, and stays pending. */
static void guest_masked(u64 cpu)
{
	irq_disable();
	set_up(cpu);
	for (u64 n = 1; n <= 50; n++) {
		gic_sgi(1, 1);
		wfi();
		GUEST_CHECK_EQ(READ_ONCE(got), n - 1);
		irq_enable();
		isb();
		irq_disable();
		GUEST_CHECK_EQ(READ_ONCE(got), n);
	}
}

TEST(not_with_an_interrupt_that_is_masked)
{
	struct vm *vm = vm_create(.main = guest_masked, .gic = true);

	vcpu_done(&vm->vcpus[0]);
}

#define ID_AA64ISAR2 ARM64_SYS_REG(3, 0, 0, 6, 2)

/* Skips the case where the guest has no WFIT and WFET. */
static void need_wfxt(struct vm *vm)
{
	if (!(reg_get(&vm->vcpus[0], ID_AA64ISAR2) & 0xf))
		SKIP("the CPU has no FEAT_WFxT");
}

static inline void wfit(u64 until)
{
	__asm__ volatile(".arch armv8.7-a\n\twfit %0" : : "r"(until) : "memory");
}

static inline void wfet(u64 until)
{
	__asm__ volatile(".arch armv8.7-a\n\twfet %0" : : "r"(until) : "memory");
}

static u64 early;

/* With nothing else that could end it: the time does, soon after it has come. */
static void guest_times(u64 cpu)
{
	irq_disable();
	wfit(0);
	wfit(timer_counter(TIMER_VIRTUAL) - 1);
	wfet(0);
	for (u64 n = 0; n < 20; n++) {
		u64 due = timer_counter(TIMER_VIRTUAL) + period, now;

		wfit(due);
		now = timer_counter(TIMER_VIRTUAL);
		if (now < due)
			early++;
		GUEST_CHECK(now < due + guest_us(5000000));
		wfet(timer_counter(TIMER_VIRTUAL) + period);
	}
}

static void timed_waits(u64 us, u64 counter)
{
	struct vm *vm = vm_create(.main = guest_times, .gic = true);

	need_wfxt(vm);
	set_period(vm, us);
	if (counter)
		reg_set(&vm->vcpus[0], KVM_REG_ARM_TIMER_CNT, counter);
	vcpu_done(&vm->vcpus[0]);
	/* A WFIT may end early, but not as a rule. */
	EXPECT(VM_GLOBAL(vm, early) <= 10);
}

/* In the vector; asleep; and where the guest's counter is far from the machine's, behind it as in all these and ahead of it. */
TEST(short_times_end_it)
{
	timed_waits(50, 0);
}

TEST(long_times_end_it)
{
	timed_waits(20000, 0);
}

TEST(times_are_the_guests)
{
	timed_waits(50, 1UL << 60);
	timed_waits(20000, 1UL << 60);
}

static void guest_far(u64 cpu)
{
	irq_disable();
	set_up(cpu);
	for (u64 n = 1; n <= 20; n++) {
		timer_set_cval(TIMER_VIRTUAL, timer_counter(TIMER_VIRTUAL) + period);
		timer_set_ctl(TIMER_VIRTUAL, TIMER_ENABLE);
		while (READ_ONCE(got) < n) {
			wfit(~0UL);
			irq_enable();
			isb();
			irq_disable();
		}
	}
}

/* An interrupt ends it long before its time. */
TEST(an_interrupt_ends_a_timed_wait)
{
	for (u64 us = 50; us <= 5000; us *= 100) {
		struct vm *vm = vm_create(.main = guest_far, .gic = true);

		need_wfxt(vm);
		set_period(vm, us);
		vcpu_done(&vm->vcpus[0]);
		vm_destroy(vm);
	}
}

static void guest_has_no_wfxt(u64 cpu)
{
	u64 far = timer_counter(TIMER_VIRTUAL) + guest_us(1000000000), esr;

	irq_disable();
	GUEST_CHECK_EQ(read_sysreg(S3_0_C0_C6_2) & 0xf, 0);
	esr = GUEST_PROBE(".arch armv8.7-a\n\twfit %0", : : "r"(far));
	GUEST_CHECK(esr && ESR_EC(esr) == EC_UNKNOWN);
	/* One that finds an event ends at once: an exception return leaves one, the host's too. */
	esr = 0;
	for (int i = 0; i < 100 && !esr; i++)
		esr = GUEST_PROBE(".arch armv8.7-a\n\twfet %0", : : "r"(far));
	GUEST_CHECK(esr && ESR_EC(esr) == EC_UNKNOWN);
}

/* A VMM takes them away: then they are UNDEFINED. KVM executes them all the same. */
TEST(without_timed_waits)
{
	struct vm *vm = vm_create(.main = guest_has_no_wfxt, .gic = true);
	struct vcpu *vcpu = &vm->vcpus[0];

	need_wfxt(vm);
	if (ktap_on_kvm())
		SKIP("KVM lets a guest use them that has them not");
	reg_set(vcpu, ID_AA64ISAR2, reg_get(vcpu, ID_AA64ISAR2) & ~0xfUL);
	vcpu_done(vcpu);
}
