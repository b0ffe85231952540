// SPDX-License-Identifier: GPL-2.0
/* KVM_GET_STATS_FD: the counters of a vCPU and of a VM count what has happened. The format has a test in KVM's selftests. */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "abi.h"
#include "gic.h"
#include "psci.h"
#include "timer.h"
#include "vm.h"

#define CALLS 100

static void guest_calls(u64 arg)
{
	for (int i = 0; i < CALLS; i++)
		guest_hvc(0x80000000, 0, 0, 0);
	GUEST_SYNC(1);
	for (int i = 0; i < CALLS; i++)
		guest_hvc(0x80000000, 0, 0, 0);
}

TEST(hypercalls_are_counted)
{
	struct vm *vm = vm_create(.main = guest_calls);
	struct vcpu *vcpu = &vm->vcpus[0];
	int fd = stats_of(vcpu->fd);
	u64 before, exits;

	EXPECT_EQ(stats_counter(fd, "hvc_exit_stat"), 0);
	EXPECT_EQ(stats_counter(fd, "exits"), 0);
	vcpu_sync(vcpu, 1);
	before = stats_counter(fd, "hvc_exit_stat");
	exits = stats_counter(fd, "exits");
	EXPECT(before >= CALLS);
	EXPECT(exits > 0);
	EXPECT(stats_counter(fd, "mmio_exit_user") > 0);
	vcpu_done(vcpu);
	EXPECT(stats_counter(fd, "hvc_exit_stat") >= before + CALLS);
	EXPECT(stats_counter(fd, "exits") > exits);
}

static void guest_kinds(u64 arg)
{
	guest_calls(0);
	read_sysreg(id_aa64pfr0_el1);
	__asm__ volatile("wfe\n\tfmov d0, xzr\n\tsmc #0" : : : "x0", "x1", "x2", "x3", "memory");
}

/* Each exit is of one kind, and the sum is what KVM's `exits` would be. */
TEST(all_exits_are_of_a_kind)
{
	static const char *const kinds[] = { "hvc_exit_stat", "sysreg_exit_stat", "wfe_exit_stat", "wfi_exit_stat",
					     "abort_exit_stat", "irq_exit_stat", "other_exit_stat" };
	struct vm *vm = vm_create(.main = guest_kinds);
	int fd = stats_of(vm->vcpus[0].fd);
	u64 sum = 0, all;

	if (ktap_on_kvm())
		SKIP("about loft alone");
	vcpu_sync(&vm->vcpus[0], 1);
	vcpu_done(&vm->vcpus[0]);
	for (u32 i = 0; i < ARRAY_SIZE(kinds); i++)
		sum += stats_counter(fd, kinds[i]);
	all = stats_counter(fd, "exits_all");
	EXPECT_EQ(all, sum);
	EXPECT(all >= stats_counter(fd, "exits") + 2 * CALLS);
	/* The FP registers and the SMC. */
	EXPECT(stats_counter(fd, "other_exit_stat") >= 2);
}

#define NAME_SIZE 48

/* The names in a file of counters, and what stands under them. */
struct names {
	u32 count;
	struct named {
		u32 flags;
		int16_t exponent;
		u16 size;
		u32 offset, bucket_size;
		char name[NAME_SIZE];
	} of[64];
};

_Static_assert(sizeof(struct named) == sizeof(struct kvm_stats_desc) + NAME_SIZE, "as in the file");

static void names_in(int fd, struct names *names)
{
	struct kvm_stats_header header;

	CHECK_EQ(pread(fd, &header, sizeof(header), 0), sizeof(header));
	CHECK_EQ(header.name_size, NAME_SIZE);
	CHECK(header.num_desc <= ARRAY_SIZE(names->of));
	names->count = header.num_desc;
	CHECK_EQ(pread(fd, names->of, header.num_desc * sizeof(*names->of), header.desc_offset), header.num_desc * sizeof(*names->of));
}

static struct named *named(struct names *names, const char *name)
{
	for (u32 i = 0; i < names->count; i++)
		if (!strcmp(names->of[i].name, name))
			return &names->of[i];
	return NULL;
}

/* Programs look counters up by KVM's names, and some give up where a VM has one that a vCPU has too. */
TEST(names)
{
	static const struct {
		const char *name;
		u32 flags;
		int exponent;
		u16 size;
	} of_vcpu[] = {
#define NUMBER KVM_STATS_TYPE_CUMULATIVE | KVM_STATS_UNIT_NONE, 0, 1
#define TIME KVM_STATS_TYPE_CUMULATIVE | KVM_STATS_UNIT_SECONDS, -9, 1
#define TIMES KVM_STATS_TYPE_LOG_HIST | KVM_STATS_UNIT_SECONDS, -9, 32
		{ "halt_successful_poll", NUMBER }, { "halt_attempted_poll", NUMBER }, { "halt_poll_invalid", NUMBER },
		{ "halt_wakeup", NUMBER }, { "halt_poll_success_ns", TIME }, { "halt_poll_fail_ns", TIME }, { "halt_wait_ns", TIME },
		{ "halt_poll_success_hist", TIMES }, { "halt_poll_fail_hist", TIMES }, { "halt_wait_hist", TIMES },
		{ "blocking", KVM_STATS_TYPE_INSTANT | KVM_STATS_UNIT_BOOLEAN, 0, 1 }, { "hvc_exit_stat", NUMBER },
		{ "wfe_exit_stat", NUMBER }, { "wfi_exit_stat", NUMBER }, { "mmio_exit_user", NUMBER }, { "mmio_exit_kernel", NUMBER },
		{ "signal_exits", NUMBER }, { "exits", NUMBER },
	};
	static const char *const of_vm[] = { "remote_tlb_flush", "remote_tlb_flush_requests" };
	static struct names vm_names, vcpu_names;
	struct vm *vm = vm_create(.main = guest_calls);

	names_in(stats_of(vm->fd), &vm_names);
	names_in(stats_of(vm->vcpus[0].fd), &vcpu_names);
	for (size_t i = 0; i < ARRAY_SIZE(of_vcpu); i++) {
		struct named *desc = named(&vcpu_names, of_vcpu[i].name);

		if (!desc)
			FAIL("a vCPU has no counter '%s'", of_vcpu[i].name);
		EXPECT_EQ(desc->flags, of_vcpu[i].flags);
		EXPECT_EQ(desc->exponent, of_vcpu[i].exponent);
		EXPECT_EQ(desc->size, of_vcpu[i].size);
	}
	for (size_t i = 0; i < ARRAY_SIZE(of_vm); i++)
		if (!named(&vm_names, of_vm[i]))
			FAIL("a VM has no counter '%s'", of_vm[i]);
	for (u32 i = 0; i < vm_names.count; i++)
		if (named(&vcpu_names, vm_names.of[i].name))
			ktap_expect(__FILE__, __LINE__, "both have '%s'", vm_names.of[i].name);
}

/* The sum of a histogram: how often what it is about happened. */
static u64 happened(int fd, const char *name)
{
	static struct names names;
	struct kvm_stats_header header;
	struct named *desc;
	u64 values[32], sum = 0;

	names_in(fd, &names);
	desc = named(&names, name);
	CHECK(desc);
	CHECK_EQ(pread(fd, &header, sizeof(header), 0), sizeof(header));
	CHECK_EQ(pread(fd, values, sizeof(values), header.data_offset + desc->offset), sizeof(values));
	for (size_t i = 0; i < ARRAY_SIZE(values); i++)
		sum += values[i];
	return sum;
}

#define WAITS 5

static void guest_waits(u64 arg)
{
	gic_init_distributor();
	gic_init_cpu();
	gic_enable(PPI_VTIMER);
	GUEST_SYNC(1);
	for (int i = 0; i < WAITS; i++) {
		timer_set_cval(TIMER_VIRTUAL, timer_counter(TIMER_VIRTUAL) + guest_us(20000));
		timer_set_ctl(TIMER_VIRTUAL, TIMER_ENABLE);
		while (!(timer_ctl(TIMER_VIRTUAL) & TIMER_ISTATUS))
			__asm__ volatile("wfi" ::: "memory");
		timer_set_ctl(TIMER_VIRTUAL, 0);
	}
	GUEST_SYNC(2);
	for (int i = 0; i < CALLS; i++)
		mmio_read32(GUEST_GICD); /* a register of the distributor's */
	__asm__ volatile("wfi" ::: "memory"); /* until a signal */
	GUEST_SYNC(3);
}

struct waiter {
	pthread_t target;
	int stats;
};

/* Ends KVM_RUN once the vCPU has waited for a moment. */
static void *kick_when_it_waits(void *arg)
{
	struct waiter *waiter = arg;

	while (!stats_counter(waiter->stats, "blocking"))
		sleep_us(1000);
	sleep_us(20000);
	kick(waiter->target);
	return NULL;
}

TEST(waits_and_devices)
{
	struct vm *vm = vm_create(.main = guest_waits, .gic = true);
	struct vcpu *vcpu = &vm->vcpus[0];
	int fd = stats_of(vcpu->fd);
	struct waiter waiter;
	pthread_t thread;
	u64 before, slept;

	vcpu_sync(vcpu, 1);
	EXPECT_EQ(stats_counter(fd, "halt_wakeup"), 0);
	EXPECT_EQ(stats_counter(fd, "halt_wait_ns"), 0);
	before = stats_counter(fd, "mmio_exit_kernel");
	EXPECT(before > 0);
	vcpu_sync(vcpu, 2);
	slept = stats_counter(fd, "halt_wait_ns");
	/* On a machine that is slow enough some of the waits are none. */
	EXPECT(stats_counter(fd, "halt_wakeup") > 0);
	EXPECT(slept > 1000000UL && slept < 30000000000UL);
	if (!ktap_on_kvm()) /* where the wakers count */
		EXPECT_EQ(happened(fd, "halt_wait_hist"), stats_counter(fd, "halt_wakeup"));
	EXPECT_EQ(happened(fd, "halt_poll_fail_hist") + happened(fd, "halt_poll_success_hist"), stats_counter(fd, "halt_attempted_poll"));
	EXPECT_EQ(happened(fd, "halt_poll_success_hist"), stats_counter(fd, "halt_successful_poll"));
	EXPECT(stats_counter(fd, "halt_poll_fail_ns") < 30000000000UL);
	EXPECT_EQ(stats_counter(fd, "blocking"), 0);
	before = stats_counter(fd, "mmio_exit_kernel");
	kick_setup();
	waiter = (struct waiter){ pthread_self(), fd };
	CHECK(pthread_create(&thread, NULL, kick_when_it_waits, &waiter) == 0);
	CHECK_EQ(vcpu_run(vcpu), -EINTR);
	CHECK(pthread_join(thread, NULL) == 0);
	EXPECT_EQ(stats_counter(fd, "mmio_exit_kernel"), before + CALLS);
	EXPECT(stats_counter(fd, "halt_wait_ns") > slept);
	EXPECT_EQ(stats_counter(fd, "blocking"), 0);
}

/* Only of loft: KVM does not count flushes of less than all. */
TEST(flushes_are_counted)
{
	struct vm *vm = vm_create(.main = guest_calls);
	int fd = stats_of(vm->fd);
	u64 before;

	if (ktap_on_kvm())
		SKIP("KVM counts other things");
	vcpu_sync(&vm->vcpus[0], 1);
	before = stats_counter(fd, "remote_tlb_flush");
	/* The guest's memory goes from under it. */
	CHECK_OK(mprotect(vm->ram, vm->ram_size, PROT_READ));
	EXPECT(stats_counter(fd, "remote_tlb_flush") > before);
	EXPECT_EQ(stats_counter(fd, "remote_tlb_flush"), stats_counter(fd, "remote_tlb_flush_requests"));
}

TEST(end_and_beyond)
{
	struct vm *vm = vm_create(.main = guest_calls);
	int fd = stats_of(vm->vcpus[0].fd), of_vm = stats_of(vm->fd);
	char buffer[64];

	EXPECT_EQ(pread(fd, buffer, sizeof(buffer), 1 << 20), 0);
	EXPECT_ERRNO(pread(fd, BAD_POINTER, 64, 0), EFAULT);
	EXPECT_ERRNO(ioctl(fd, KVM_RUN, 0), ENOTTY);
	EXPECT(pread(of_vm, buffer, sizeof(buffer), 0) == sizeof(buffer));
	/* They keep what they need when all else is closed. */
	vm_destroy(vm);
	EXPECT(pread(fd, buffer, sizeof(buffer), 0) == sizeof(buffer));
	EXPECT(pread(of_vm, buffer, sizeof(buffer), 0) == sizeof(buffer));
	close(fd);
	close(of_vm);
}
