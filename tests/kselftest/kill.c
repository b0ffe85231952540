// SPDX-License-Identifier: GPL-2.0
/* Whatever a vCPU is at, a process can be killed and stopped: with all signals blocked, and while it waits for a vCPU. */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gic.h"
#include "timer.h"
#include "vm.h"

/* How long the end of a process may take on a busy machine. */
#define LIMIT_US 8000000
/* The guests end by themselves: where a test fails, no process stays that cannot be killed. */
#define GUEST_LIFE_US 20000000

static u64 progress, stop;

static void guest_spin(u64 arg)
{
	u64 end = guest_now() + guest_us(GUEST_LIFE_US);

	while (!READ_ONCE(stop) && guest_now() < end)
		WRITE_ONCE(progress, progress + 1);
}

static void on_timer(struct guest_regs *regs)
{
	u32 intid = gic_ack();

	timer_set_ctl(TIMER_VIRTUAL, 0);
	WRITE_ONCE(stop, 1);
	gic_eoi(intid);
}

static void guest_sleep(u64 arg)
{
	guest_irq_handler = on_timer;
	gic_init_distributor();
	gic_init_cpu();
	gic_enable(PPI_VTIMER);
	timer_set_cval(TIMER_VIRTUAL, guest_now() + guest_us(GUEST_LIFE_US));
	timer_set_ctl(TIMER_VIRTUAL, TIMER_ENABLE);
	irq_enable();
	WRITE_ONCE(progress, 1);
	while (!READ_ONCE(stop))
		wfi();
}

static void wait_progress(struct vm *vm, u64 before)
{
	for (u64 end = now_us() + LIMIT_US; VM_GLOBAL(vm, progress) == before; sleep_us(500))
		if (now_us() > end)
			FAIL("the guest does not get on");
}

static void wait_dead(pid_t child)
{
	u64 end = now_us() + LIMIT_US;
	int status;

	while (waitpid(child, &status, WNOHANG) == 0) {
		if (now_us() > end)
			FAIL("killed, and still there after %d s", LIMIT_US / 1000000);
		sleep_us(1000);
	}
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* ---- A process that runs a vCPU with all signals blocked ---- */

struct life {
	void (*guest)(u64);
	bool blocked, waiter;
	pid_t pid;
	int ready[2];
};

static struct life *life;
static struct vm *vm;
static pid_t runner, waiter;

static void block_all(struct vcpu *vcpu)
{
	struct {
		struct kvm_signal_mask head;
		u64 set;
	} __attribute__((packed)) mask = { .head.len = 8, .set = ~0UL };

	CHECK_OK(ioctl(vcpu->fd, KVM_SET_SIGNAL_MASK, &mask));
}

static void *wait_for_vcpu(void *arg)
{
	__atomic_store_n(&waiter, gettid(), __ATOMIC_SEQ_CST);
	reg_get(&vm->vcpus[0], CORE_REG(regs.pc));
	return NULL;
}

static int threads_of(pid_t pid)
{
	char path[32];
	int n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	d = opendir(path);
	CHECK(d);
	for (struct dirent *e; (e = readdir(d));)
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

/* Tells the parent when the vCPU is where it is wanted. */
static void *watch(void *arg)
{
	pthread_t thread;

	wait_progress(vm, 0);
	if (life->guest == guest_sleep)
		wait_asleep(getpid(), runner);
	if (life->waiter) {
		CHECK(pthread_create(&thread, NULL, wait_for_vcpu, NULL) == 0);
		while (!__atomic_load_n(&waiter, __ATOMIC_SEQ_CST))
			sleep_us(500);
		wait_asleep(getpid(), waiter);
	}
	CHECK(write(life->ready[1], "", 1) == 1);
	return NULL;
}

static void live(void)
{
	pthread_t thread;

	vm = vm_create(.main = life->guest, .gic = life->guest == guest_sleep);
	runner = gettid();
	CHECK(pthread_create(&thread, NULL, watch, NULL) == 0);
	if (life->blocked)
		block_all(&vm->vcpus[0]);
	vcpu_done(&vm->vcpus[0]);
}

static void begin(struct life *l)
{
	struct pollfd p = { .events = POLLIN };

	life = l;
	CHECK_OK(pipe(l->ready));
	l->pid = CHECK_OK(fork());
	if (l->pid == 0) {
		live();
		_exit(0);
	}
	p.fd = l->ready[0];
	if (poll(&p, 1, 2 * LIMIT_US / 1000) != 1)
		FAIL("the process does not get to where it is to be killed");
	/* A thread that blocks nothing would take the signal for all: only those that matter are left. */
	while (threads_of(l->pid) > (l->waiter ? 2 : 1))
		sleep_us(500);
}

static void kill_it(struct life *l)
{
	CHECK_OK(kill(l->pid, SIGKILL));
	wait_dead(l->pid);
}

TEST(blocked_and_running)
{
	struct life l = { .guest = guest_spin, .blocked = true };

	begin(&l);
	kill_it(&l);
}

TEST(blocked_and_asleep)
{
	struct life l = { .guest = guest_sleep, .blocked = true };

	begin(&l);
	kill_it(&l);
}

static void stops_and_goes_on(struct life *l)
{
	int status;

	begin(l);
	for (int i = 0; i < 3; i++) {
		u64 end = now_us() + LIMIT_US;

		CHECK_OK(kill(l->pid, SIGSTOP));
		while (waitpid(l->pid, &status, WNOHANG | WUNTRACED) == 0) {
			if (now_us() > end)
				FAIL("it does not stop");
			sleep_us(1000);
		}
		CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
		CHECK_OK(kill(l->pid, SIGCONT));
		CHECK_EQ(waitpid(l->pid, &status, WCONTINUED), l->pid);
		CHECK(WIFCONTINUED(status));
	}
	kill_it(l);
}

TEST_SECONDS(blocked_and_stopped, 60)
{
	stops_and_goes_on(&(struct life){ .guest = guest_spin, .blocked = true });
	stops_and_goes_on(&(struct life){ .guest = guest_sleep, .blocked = true });
}

/* One thread runs the vCPU, another one waits for it: both go at once. */
TEST(with_a_waiter)
{
	struct life l = { .guest = guest_spin, .waiter = true };

	begin(&l);
	kill_it(&l);
}

/* ---- A vCPU is used by one at a time; the others wait, until they are killed ---- */

static u64 asked_reg;
static struct {
	struct kvm_reg_list head;
	u64 ids[2000];
} list;
static struct kvm_vcpu_init init;
static struct kvm_vcpu_events events;
static struct kvm_one_reg one_reg = { .addr = (u64)&asked_reg };

static const struct {
	const char *name;
	unsigned long request;
	void *argument;
} calls[] = {
	{ "KVM_GET_ONE_REG", KVM_GET_ONE_REG, &one_reg },
	{ "KVM_SET_ONE_REG", KVM_SET_ONE_REG, &one_reg },
	{ "KVM_GET_REG_LIST", KVM_GET_REG_LIST, &list },
	{ "KVM_GET_VCPU_EVENTS", KVM_GET_VCPU_EVENTS, &events },
	{ "KVM_SET_VCPU_EVENTS", KVM_SET_VCPU_EVENTS, &events },
	{ "KVM_ARM_VCPU_INIT", KVM_ARM_VCPU_INIT, &init },
};

static void prepare(void)
{
	one_reg.id = CORE_REG(regs.regs[28]);
	list.head.n = ARRAY_SIZE(list.ids);
	CHECK_OK(ioctl(vm->fd, KVM_ARM_PREFERRED_TARGET, &init));
	init.features[0] |= 1 << KVM_ARM_VCPU_PSCI_0_2;
}

static u32 call;
static volatile int answered;
static int result;

static void *ask(void *arg)
{
	__atomic_store_n(&waiter, gettid(), __ATOMIC_SEQ_CST);
	result = ioctl(vm->vcpus[0].fd, calls[call].request, calls[call].argument);
	answered = true;
	return NULL;
}

static void *run_once(void *arg)
{
	CHECK_EQ(vcpu_run(&vm->vcpus[0]), -EINTR);
	return NULL;
}

TEST(others_wait)
{
	pthread_t running, asking;

	vm = vm_create(.main = guest_spin);
	prepare();
	kick_setup();
	for (call = 0; call < ARRAY_SIZE(calls); call++) {
		u64 before = VM_GLOBAL(vm, progress);

		answered = waiter = 0;
		CHECK(pthread_create(&running, NULL, run_once, NULL) == 0);
		wait_progress(vm, before);
		CHECK(pthread_create(&asking, NULL, ask, NULL) == 0);
		while (!__atomic_load_n(&waiter, __ATOMIC_SEQ_CST))
			sleep_us(500);
		wait_asleep(getpid(), waiter);
		wait_progress(vm, VM_GLOBAL(vm, progress));
		if (answered)
			FAIL("%s did not wait for KVM_RUN", calls[call].name);
		kick(running);
		pthread_join(running, NULL);
		pthread_join(asking, NULL);
		if (result)
			FAIL("%s: %d", calls[call].name, result);
	}
}

/*
 * A process of its own that shares the memory, and so the VM: killing it does not end KVM_RUN. It has no thread-local
 * storage of its own, so it makes system calls and nothing else.
 */
static volatile int entered;

static int ask_as_process(void *arg)
{
	register long x0 __asm__("x0") = vm->vcpus[0].fd;
	register long x1 __asm__("x1") = call < ARRAY_SIZE(calls) ? calls[call].request : KVM_RUN;
	register void *x2 __asm__("x2") = call < ARRAY_SIZE(calls) ? calls[call].argument : NULL;
	register long x8 __asm__("x8") = SYS_ioctl;

	entered = 1;
	__asm__ volatile("svc #0" : "+r"(x0) : "r"(x1), "r"(x2), "r"(x8) : "memory");
	answered = 1;
	return 0;
}

TEST_SECONDS(waiting_can_be_killed, 60)
{
	static u8 stack[16384] __attribute__((aligned(16)));

	vm = vm_create(.main = guest_spin);
	prepare();
	vcpu_start(&vm->vcpus[0]);
	/* One more than there are: KVM_RUN itself. */
	for (call = 0; call <= ARRAY_SIZE(calls); call++) {
		pid_t pid;

		wait_progress(vm, VM_GLOBAL(vm, progress));
		entered = answered = 0;
		pid = CHECK_OK(clone(ask_as_process, stack + sizeof(stack), CLONE_VM | CLONE_FILES | SIGCHLD, NULL));
		while (!entered)
			sleep_us(500);
		wait_asleep(pid, pid);
		CHECK_OK(kill(pid, SIGKILL));
		wait_dead(pid);
		CHECK(!answered);
	}
	/* The vCPU has not noticed any of that. */
	wait_progress(vm, VM_GLOBAL(vm, progress));
	VM_GLOBAL(vm, stop) = 1;
	vcpu_join(&vm->vcpus[0]);
}
