// SPDX-License-Identifier: GPL-2.0
/* VMs that come and go in every way: in order, in any order, and killed wherever their vCPUs are. Nothing of them stays. */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gic.h"
#include "held.h"
#include "psci.h"
#include "vm.h"

#define AREA 0x80000000UL
#define AREA_SIZE 0x10000UL

static void guest_once(u64 arg)
{
	gic_init_distributor();
	gic_init_cpu();
	*(volatile u64 *)AREA = 1;
	GUEST_SYNC(1);
}

static struct vm *ready_vm(void (*main)(u64), u32 vcpus, void *area)
{
	struct vm *vm = vm_create(.main = main, .gic = true, .vcpus = vcpus);

	CHECK_OK(vm_slot(vm, 1, 0, AREA, AREA_SIZE, area));
	return vm;
}

static void once(void *area)
{
	struct vm *vm = ready_vm(guest_once, 1, area);

	vcpu_sync(&vm->vcpus[0], 1);
	vm_destroy(vm);
}

/* Whoever counts nothing finds no leak. */
TEST(what_is_held_is_counted)
{
	void *area = host_alloc(AREA_SIZE, 4096);
	struct held before, now;
	struct vm *vm;
	int events[32];

	once(area);
	before = held_now();
	if (!before.known)
		SKIP("this kernel does not say who holds what");
	vm = ready_vm(guest_once, 1, area);
	for (u32 i = 0; i < ARRAY_SIZE(events); i++)
		events[i] = CHECK_OK(eventfd(0, EFD_CLOEXEC));
	now = held_now();
	/* Some of those of the program before may go only now. */
	EXPECT(now.events >= before.events + 24);
	EXPECT(now.files >= before.files + 24);
	EXPECT(now.objects > before.objects);
	for (u32 i = 0; i < ARRAY_SIZE(events); i++)
		close(events[i]);
	vm_destroy(vm);
	held_compare(before);
}

TEST_SECONDS(a_thousand_vms, 100)
{
	void *area = host_alloc(AREA_SIZE, 4096);
	int times = ktap_times(1000);
	struct held before;

	once(area);
	before = held_now();
	for (int i = 0; i < times; i++)
		once(area);
	ktap_note("%d VMs", times);
	held_compare(before);
}

/* ---- Every order of closing ---- */

#define FILES 5

static void close_in_order(const int *order, void *area)
{
	struct vm *vm = ready_vm(guest_once, 2, area);
	struct kvm_irqfd irqfd = { .gsi = 3 };
	int event = CHECK_OK(eventfd(0, EFD_CLOEXEC));
	int files[FILES] = { vm->fd, vm->vcpus[0].fd, vm->vcpus[1].fd, vm->gic, event };

	irqfd.fd = event;
	CHECK_OK(ioctl(vm->fd, KVM_IRQFD, &irqfd));
	vcpu_sync(&vm->vcpus[0], 1);
	/* The pages that are shared with vCPUs go before their files, or after. */
	if (order[0] & 1)
		munmap(vm->vcpus[0].run, 4096);
	for (int i = 0; i < FILES; i++) {
		/* What is left must not notice. */
		if (i == 2)
			CHECK(write(event, &(u64){ 1 }, 8) == 8 || errno == EBADF);
		CHECK_OK(close(files[order[i]]));
	}
	munmap(vm->vcpus[0].run, 4096);
	munmap(vm->vcpus[1].run, 4096);
	munmap(vm->ram, vm->ram_size);
	free(vm);
}

static void permute(int *order, int from, void *area)
{
	if (from == FILES)
		return close_in_order(order, area);
	for (int i = from; i < FILES; i++) {
		int first = order[i];

		order[i] = order[from];
		order[from] = first;
		permute(order, from + 1, area);
		order[from] = order[i];
		order[i] = first;
	}
}

TEST_SECONDS(closed_in_every_order, 60)
{
	void *area = host_alloc(AREA_SIZE, 4096);
	int order[FILES] = { 0, 1, 2, 3, 4 };
	struct held before;

	close_in_order(order, area);
	before = held_now();
	permute(order, 0, area);
	held_compare(before);
}

/* ---- Killed ---- */

enum state { IN_GUEST, IN_FAULT, IN_WFI, IN_USERSPACE, IN_IOCTL, OFF, STATES };

static const char *const state_names[STATES] = { "in the guest", "in a stage-2 fault", "in WFI", "in userspace", "in an ioctl", "off" };

static void guest_spin(u64 arg)
{
	for (;;)
		(*(volatile u64 *)AREA)++;
}

static void guest_sleep(u64 arg)
{
	for (;;)
		wfi();
}

static void guest_talk(u64 arg)
{
	for (;;)
		GUEST_SYNC(1);
}

static void guest_off(u64 arg)
{
	psci(PSCI_CPU_OFF, 0, 0, 0);
}

/* Memory that nobody ever brings: whoever touches it waits. */
static void *absent_area(void)
{
	void *area = host_alloc(AREA_SIZE, 4096);
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = { .range = { (u64)area, AREA_SIZE }, .mode = UFFDIO_REGISTER_MODE_MISSING };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC);

	if (fd < 0)
		return NULL;
	CHECK_OK(ioctl(fd, UFFDIO_API, &api));
	CHECK_OK(ioctl(fd, UFFDIO_REGISTER, &range));
	return area;
}

static void *run_forever(void *arg)
{
	struct vcpu *vcpu = arg;

	for (;;)
		vcpu_run(vcpu);
	return NULL;
}

/* One ioctl after the other that walks, copies and allocates. */
static void *ask_forever(void *arg)
{
	struct vcpu *vcpu = arg;
	struct {
		u64 n;
		u64 reg[2000];
	} *list = malloc(sizeof(*list));

	for (;;) {
		struct kvm_create_device test = { .type = KVM_DEV_TYPE_ARM_VGIC_V3 };
		u64 value;

		list->n = 2000;
		ioctl(vcpu->fd, KVM_GET_REG_LIST, list);
		reg_try_get(vcpu, CORE_REG(regs.pc), &value);
		ioctl(vcpu->vm->fd, KVM_CREATE_DEVICE, &test);
		vm_slot(vcpu->vm, 2, 0, 0xc0000000, AREA_SIZE, vcpu->vm->ram);
		vm_slot(vcpu->vm, 2, 0, 0xc0000000, 0, NULL);
	}
	return NULL;
}

static void victim(enum state state, int ready)
{
	static void (*const mains[STATES])(u64) = { guest_spin, guest_spin, guest_sleep, guest_talk, guest_sleep, guest_off };
	void *area = state == IN_FAULT ? absent_area() : host_alloc(AREA_SIZE, 4096);
	struct vm *vm;
	pthread_t thread;

	if (!area)
		_exit(4);
	vm = ready_vm(mains[state], 2, area);
	CHECK(pthread_create(&thread, NULL, run_forever, &vm->vcpus[0]) == 0);
	CHECK(pthread_create(&thread, NULL, state == IN_IOCTL ? ask_forever : run_forever, &vm->vcpus[1]) == 0);
	CHECK(write(ready, "r", 1) == 1);
	for (;;)
		pause();
}

static void kill_in(enum state state, int round)
{
	int ready[2], status;
	pid_t child;
	char c;

	CHECK_OK(pipe2(ready, O_CLOEXEC));
	child = CHECK_OK(fork());
	if (child == 0) {
		victim(state, ready[1]);
		_exit(1);
	}
	close(ready[1]);
	if (read(ready[0], &c, 1) != 1) {
		CHECK_EQ(waitpid(child, &status, 0), child);
		if (WIFEXITED(status) && WEXITSTATUS(status) == 4)
			SKIP("no userfaultfd here");
		FAIL("the victim has ended by itself, with status %#x", status);
	}
	close(ready[0]);
	sleep_us(2000 + round * 1700 % 20000);
	CHECK_OK(kill(child, SIGKILL));
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void killed(enum state state)
{
	struct held before;

	kill_in(state, 0);
	before = held_now();
	for (int i = 0; i < 20; i++)
		kill_in(state, i);
	ktap_note("killed 20 times %s", state_names[state]);
	held_compare(before);
}

TEST_SECONDS(killed_in_the_guest, 60)
{
	killed(IN_GUEST);
}

TEST_SECONDS(killed_in_a_fault, 60)
{
	killed(IN_FAULT);
}

TEST_SECONDS(killed_in_wfi, 60)
{
	killed(IN_WFI);
}

TEST_SECONDS(killed_in_userspace, 60)
{
	killed(IN_USERSPACE);
}

TEST_SECONDS(killed_in_an_ioctl, 60)
{
	killed(IN_IOCTL);
}

TEST_SECONDS(killed_while_off, 60)
{
	killed(OFF);
}
