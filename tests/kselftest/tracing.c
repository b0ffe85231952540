// SPDX-License-Identifier: GPL-2.0
/* The kernel developer's tools on the module while it runs a guest: they tell something, and the guest goes on. */
#include <fcntl.h>
#include <linux/perf_event.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "abi.h"
#include "gic.h"
#include "timer.h"
#include "tracefs.h"
#include "vm.h"

#define DEVICE 0x0a000000UL

static void need_tracing(void)
{
	if (ktap_on_kvm())
		SKIP("about loft alone");
	if (!have_trace() || access(TRACING "set_ftrace_filter", W_OK) || access(TRACING "kprobe_events", W_OK))
		SKIP("this kernel traces no functions");
}

/* How many lines of a file hold the text. */
static u32 lines_with(const char *path, const char *text)
{
	char line[512];
	u32 lines = 0;
	FILE *file = fopen(path, "r");

	if (!file)
		FAIL("%s: %s", path, strerrorname_np(errno));
	while (fgets(line, sizeof(line), file))
		lines += strstr(line, text) != NULL;
	fclose(file);
	return lines;
}

/* Exits of all kinds: those that the vector answers, those that it cannot, and interrupts. */
static u64 interrupts[2], leaving;

static void on_irq(struct guest_regs *regs)
{
	u32 intid = gic_ack();

	if (intid == GIC_SPURIOUS)
		return;
	if (intid == PPI_VTIMER)
		timer_set_ctl(TIMER_VIRTUAL, 0);
	if (intid == PPI_PTIMER)
		timer_set_ctl(TIMER_PHYSICAL, 0);
	gic_eoi(intid);
	WRITE_ONCE(interrupts[guest_self()->index], interrupts[guest_self()->index] + 1);
}

static void set_up(u64 index)
{
	guest_irq_handler = on_irq;
	if (index == 0)
		gic_init_distributor();
	gic_init_cpu();
	for (u32 n = 0; n < 16; n++)
		gic_enable(n);
	gic_enable(PPI_VTIMER);
	gic_enable(PPI_PTIMER);
	irq_enable();
}

/* Until this vCPU has had another interrupt than `count`; in WFI, which an interrupt that is masked ends as well. */
static void wait_more(u64 index, u64 count, bool sleep)
{
	while (READ_ONCE(interrupts[index]) == count) {
		irq_disable();
		if (sleep && READ_ONCE(interrupts[index]) == count)
			wfi();
		irq_enable();
		__asm__ volatile("isb\n\tyield");
	}
}

static void guest_everything(u64 index)
{
	set_up(index);
	if (index == 1) {
		for (u64 count = 0; !READ_ONCE(leaving); count++)
			wait_more(1, count, true);
		return;
	}
	gic_sgi(1, 2);
	wait_more(1, 0, false);
	for (int i = 0; i < 20; i++) {
		u64 theirs = READ_ONCE(interrupts[1]);

		GUEST_CHECK(guest_hvc(0x80000000, 0, 0, 0).x0 >= 0x10001);
		GUEST_CHECK(read_sysreg(id_aa64pfr0_el1) != 0);
		GUEST_CHECK(mmio_read32(GUEST_GICD + GICD_CTLR) != 0);
		mmio_write32(DEVICE, i);
		gic_sgi(2, 2);
		wait_more(1, theirs, false);
		for (enum guest_timer t = TIMER_VIRTUAL; t <= TIMER_PHYSICAL; t++) {
			u64 mine = READ_ONCE(interrupts[0]);

			timer_set_cval(t, timer_counter(t) + (i % 2 ? guest_us(100) : 0));
			timer_set_ctl(t, TIMER_ENABLE);
			wait_more(0, mine, i % 4 == 1);
		}
	}
	WRITE_ONCE(leaving, 1);
	gic_sgi(3, 2);
}

static bool device(struct vcpu *vcpu)
{
	return vcpu->run->exit_reason == KVM_EXIT_MMIO && vcpu->run->mmio.phys_addr == DEVICE;
}

static void run_everything(void)
{
	struct vm *vm = vm_create(.main = guest_everything, .gic = true, .vcpus = 2);

	vm->vcpus[0].on_exit = device;
	vm_run_all(vm);
	vm_destroy(vm);
}

/* Whatever a case has left on, for it may have ended anywhere. */
static bool all_off(void)
{
	bool done = put(TRACING "current_tracer", "nop") && put(TRACING "set_ftrace_filter", " ");

	put(TRACING "events/loft_test/hit/enable", "0");
	put(TRACING "events/loft/enable", "0");
	return put(TRACING "kprobe_events", "") && done;
}

/* Each kind of exit, and what comes to a VM from outside, is told under KVM's names. */
TEST(events)
{
	u8 *memory = host_alloc(0x1000, 0x1000);
	struct kvm_irq_level line = { .irq = KVM_ARM_IRQ_TYPE_SPI << KVM_ARM_IRQ_TYPE_SHIFT | 40, .level = 1 };
	char text[64];
	struct vm *vm;

	need_tracing();
	vm = vm_create(.main = guest_everything, .gic = true, .vcpus = 2);
	vm->vcpus[0].on_exit = device;
	CHECK_OK(vm_slot(vm, 1, 0, 0x80000000, 0x1000, memory));
	CHECK(put(TRACING "trace", ""));
	CHECK(put(TRACING "events/loft/enable", "1"));
	vm_run_all(vm);
	CHECK_OK(ioctl(vm->fd, KVM_IRQ_LINE, &line));
	CHECK_OK(madvise(memory, 0x1000, MADV_DONTNEED));
	CHECK(put(TRACING "events/loft/enable", "0"));
	vm_destroy(vm);

	/* What the vector answers, too, and it says so. */
	EXPECT(events_with("kvm_exit: TRAP: HSR_EC: 0x0016 (HVC64)", " fast") >= 20);
	EXPECT(events_with("kvm_hvc_arm64: ", "r0: 0x0000000080000000") >= 20);
	EXPECT(events_with("kvm_exit: TRAP: HSR_EC: 0x0018 (SYS64)", " fast") >= 20);
	EXPECT(events_with("kvm_sys_access: ", "(3,0,0,4,0) read") >= 20);
	EXPECT(events_with("kvm_sys_access: ", "(3,0,12,11,5) write") >= 20);
	snprintf(text, sizeof(text), "mmio read len 4 gpa 0x%x ", GUEST_GICD + GICD_CTLR);
	EXPECT(events_with("kvm_mmio: ", text) >= 20);
	EXPECT(events_with("kvm_exit: IRQ: ", " fast") > 0);
	EXPECT(events_with("kvm_wfx_arm64: ", " wfi ") > 0);
	EXPECT(events_with("kvm_timer_update_irq: VCPU: 0, IRQ 27, ", "level 1") >= 20);
	EXPECT(events_with("kvm_timer_update_irq: VCPU: 0, IRQ 30, ", "level 0") >= 20);
	EXPECT(events_with("vgic_update_irq_pending: VCPU: 0, IRQ 27, ", "level: 1") >= 20);
	/* Of each timer, when a thread gets a CPU for its vCPU. */
	EXPECT(events_with("kvm_timer_restore_state: CTL: ", " arch_timer_ctx_index: 0") >= 2);
	EXPECT_EQ(events_with("kvm_timer_restore_state: ", "index: 1"), events_with("kvm_timer_restore_state: ", "index: 0"));
	EXPECT_EQ(events_with("kvm_timer_save_state: CTL: ", "index: 0"), events_with("kvm_timer_restore_state: ", "index: 0"));
	EXPECT_EQ(events_with("kvm_timer_save_state: ", "index: 1"), events_with("kvm_timer_save_state: ", "index: 0"));
	/* And what it does not. */
	EXPECT_EQ(events_with("kvm_mmio: mmio write", " gpa 0xa000000 "), 20);
	EXPECT_EQ(events_with("kvm_mmio: ", "mmio write len 4 gpa 0xa000000 val 0x13\n"), 1);
	EXPECT(events_with("kvm_userspace_exit: ", "reason 6, errno 0") >= 20);
	EXPECT(events_with("kvm_guest_fault: ipa 0x", ", hsr 0x") >= 40);
	EXPECT_EQ(events_with("kvm_entry: ", "PC"), events_with("kvm_exit: ", "PC"));
	EXPECT_EQ(events_with("kvm_irq_line: ", "num: 40, level: 1"), 1);
	EXPECT_EQ(events_with("vgic_update_irq_pending: ", "IRQ 40, level: 1"), 1);
	snprintf(text, sizeof(text), "range: 0x%016lx -- ", (u64)memory);
	EXPECT_EQ(events_with("kvm_unmap_hva_range: ", text), 1);
	CHECK(all_off());
}

static void guest_pair(u64 arg)
{
	__asm__ volatile("stp xzr, xzr, [%0]" : : "r"(DEVICE + 16) : "memory");
}

/* What is seldom: an access that has no description, and a debugger's request. */
TEST(events_of_what_is_seldom)
{
	struct kvm_guest_debug debug = { .control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW }, refused = { .control = 1U << 31 };
	char text[64];
	struct vcpu *vcpu;
	struct vm *vm;

	need_tracing();
	vm = vm_create(.main = guest_pair);
	vcpu = &vm->vcpus[0];
	CHECK(put(TRACING "trace", ""));
	CHECK(put(TRACING "events/loft/enable", "1"));
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, &debug));
	EXPECT_ERRNO(ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, &refused), EINVAL);
	CHECK_EQ(vcpu_run(vcpu), -ENOSYS);
	CHECK(put(TRACING "events/loft/enable", "0"));
	EXPECT_EQ(events_with("kvm_set_guest_debug: vcpu: ", "flags: 0x00020001"), 1);
	EXPECT_EQ(events_with("kvm_set_guest_debug: vcpu: ", "flags: 0x80000000"), 1);
	EXPECT_EQ(events_with("kvm_mmio_nisv: ipa 0x000000000a000010, esr 0x", "far 0x000000000a000010, "), 1);
	snprintf(text, sizeof(text), ", pc 0x%016lx", reg_get(vcpu, CORE_REG(regs.pc)));
	EXPECT_EQ(events_with("kvm_mmio_nisv: ", text), 1);
	vm_destroy(vm);
	CHECK(all_off());
}

static u64 calls;

static void guest_calls(u64 arg)
{
	for (u64 n = 0; n < READ_ONCE(calls); n++)
		guest_hvc(0x80000000, 0, 0, 0);
}

/* What exits_all says of the guest in which events were counted last. */
static u64 exits_then;

/*
 * Counts an event of this thread's while a guest makes so many calls. `sampled`: each also leaves a sample with the callers'
 * addresses, and some may not be counted where there are too many of them.
 */
static u64 counted(const char *event, u64 count, bool sampled)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_TRACEPOINT,
		.size = sizeof(attr),
		.sample_period = sampled,
		.sample_type = PERF_SAMPLE_IP | PERF_SAMPLE_CALLCHAIN,
	};
	struct vm *vm = vm_create(.main = guest_calls);
	char path[100];
	void *page;
	FILE *id;
	u64 seen;
	int fd;

	snprintf(path, sizeof(path), TRACING "events/loft/%s/id", event);
	id = fopen(path, "r");
	CHECK(id && fscanf(id, "%llu", &attr.config) == 1);
	fclose(id);
	VM_GLOBAL(vm, calls) = count;
	fd = syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);
	if (fd < 0)
		SKIP("this kernel has no perf events");
	page = mmap(NULL, 4096 * 9, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(page != MAP_FAILED);
	vcpu_done(&vm->vcpus[0]);
	CHECK_EQ(read(fd, &seen, sizeof(seen)), sizeof(seen));
	exits_then = stats_counter(stats_of(vm->vcpus[0].fd), "exits_all");
	CHECK(munmap(page, 4096 * 9) == 0);
	close(fd);
	vm_destroy(vm);
	return seen;
}

/* perf stat and perf record: one event alone, exactly. */
TEST(events_are_counted)
{
	need_tracing();
	EXPECT_EQ(counted("kvm_hvc_arm64", 500, false) - counted("kvm_hvc_arm64", 0, false), 500);
	EXPECT_EQ(counted("kvm_exit", 500, false), exits_then);
	EXPECT(counted("kvm_entry", 500, false) >= 500);
	EXPECT(counted("kvm_exit", 500, true) > 0);
	EXPECT_EQ(counted("kvm_timer_update_irq", 100, false), 0);
}

static bool enough;

static void *switches(void *arg)
{
	for (int i = 0; !READ_ONCE(enough); i++) {
		CHECK(put(TRACING "events/loft/enable", i % 2 ? "0" : "1"));
		sleep_us(i % 7 * 300);
	}
	return NULL;
}

/* Whatever the vCPUs are doing meanwhile. */
TEST(events_switched_on_and_off)
{
	pthread_t other;

	need_tracing();
	CHECK(pthread_create(&other, NULL, switches, NULL) == 0);
	for (int i = 0; i < ktap_times(40); i++)
		run_everything();
	WRITE_ONCE(enough, true);
	CHECK(pthread_join(other, NULL) == 0);
	CHECK(all_off());
}

/* Each call of the module's functions in C is written down, those from fast exits too. */
TEST(function_tracer)
{
	static const char *const tracers[] = { "function", "function_graph" };

	need_tracing();
	for (u32 i = 0; i < ARRAY_SIZE(tracers); i++) {
		u32 entries;

		CHECK(put(TRACING "set_ftrace_filter", ":mod:loft"));
		CHECK(put(TRACING "current_tracer", tracers[i]));
		CHECK(put(TRACING "trace", ""));
		run_everything();
		entries = lines_with(TRACING "trace", "loft_guest_enter_irqoff");
		ktap_note("%s: %u entries into a guest are in the trace", tracers[i], entries);
		EXPECT(entries > 0);
		EXPECT(lines_with(TRACING "trace", "loft_dmb_before_guest") > 0);
		CHECK(all_off());
	}
}

/* Who changes a VM's slots, logs or ioeventfds waits for no grace period of RCU, and has no CPU interrupted for one. */
TEST(no_grace_period_is_waited_for)
{
	struct kvm_ioeventfd event = { .addr = DEVICE, .len = 4, .fd = eventfd(0, 0) };
	u8 *memory = host_alloc(0x1000, 0x1000);
	char me[20];
	struct vm *vm;
	u32 waits;

	need_tracing();
	vm = vm_create(.main = guest_everything);
	snprintf(me, sizeof(me), "-%d ", gettid());
	CHECK(put(TRACING "set_ftrace_filter", "synchronize_rcu*"));
	CHECK(put(TRACING "current_tracer", "function"));
	CHECK(put(TRACING "trace", ""));
	for (int i = 0; i < 100; i++) {
		event.flags = 0;
		CHECK_OK(ioctl(vm->fd, KVM_IOEVENTFD, &event));
		event.flags = KVM_IOEVENTFD_FLAG_DEASSIGN;
		CHECK_OK(ioctl(vm->fd, KVM_IOEVENTFD, &event));
		CHECK_OK(vm_slot(vm, 1, 0, 0x80000000, 0x1000, memory));
		CHECK_OK(vm_slot(vm, 1, KVM_MEM_LOG_DIRTY_PAGES, 0x80000000, 0x1000, memory));
		CHECK_OK(vm_slot(vm, 1, 0, 0x80000000, 0x1000, memory));
		CHECK_OK(vm_slot(vm, 1, 0, 0, 0, NULL));
	}
	waits = lines_with(TRACING "trace", me);
	CHECK(all_off());
	CHECK_EQ(waits, 0);
}

/* A timer that fires in the guest, which a fast exit answers. */
static void guest_timer(u64 arg)
{
	set_up(0);
	timer_set_cval(TIMER_VIRTUAL, timer_counter(TIMER_VIRTUAL) + guest_us(100));
	timer_set_ctl(TIMER_VIRTUAL, TIMER_ENABLE);
	wait_more(0, 0, false);
}

/*
 * A breakpoint in a function that fast exits call: the host takes an exception while the guest's world is in the CPU, as for a
 * WARN or a BUG. The host deals with it as anywhere else. The guest is lost, which its VMM is told; the next one is not.
 */
TEST(breakpoint_in_a_fast_exit)
{
	struct vm *vm;
	int ret;

	need_tracing();
	vm = vm_create(.main = guest_timer, .gic = true);
	CHECK(put(TRACING "trace", ""));
	CHECK(put(TRACING "kprobe_events", "p:loft_test/hit loft:loft_dmb_before_guest"));
	CHECK(put(TRACING "events/loft_test/hit/enable", "1"));
	ret = vcpu_run(&vm->vcpus[0]);
	EXPECT_EQ(lines_with(TRACING "trace", "hit: (loft_dmb_before_guest"), 1);
	CHECK(all_off());
	CHECK_EQ(ret, 0);
	CHECK_EQ(vm->vcpus[0].run->exit_reason, KVM_EXIT_INTERNAL_ERROR);
	vm_destroy(vm);
	run_everything();
}

/* The module's text, from kallsyms. */
static void module_range(u64 *from, u64 *to)
{
	char line[512], type;
	FILE *file = fopen("/proc/kallsyms", "r");
	unsigned long at;

	CHECK(file != NULL);
	*from = ~0UL, *to = 0;
	while (fgets(line, sizeof(line), file))
		if (strstr(line, "[loft]") && sscanf(line, "%lx %c", &at, &type) == 2 && (type == 't' || type == 'T')) {
			*from = at < *from ? at : *from;
			*to = at > *to ? at : *to;
		}
	fclose(file);
	CHECK(*to > *from);
}

static void guest_device(u64 arg)
{
	while (!READ_ONCE(leaving))
		mmio_write32(DEVICE, 0);
}

/* Where this thread is, many times a second. */
struct samples {
	struct perf_event_mmap_page *page;
	u64 read;
};

struct sample {
	struct perf_event_header header;
	u64 ip;
};

#define SAMPLES_SIZE (4096UL * 64)

static struct samples sample_each_us(u64 us)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_SW_CPU_CLOCK,
		.sample_period = us * 1000,
		.sample_type = PERF_SAMPLE_IP,
	};
	struct samples samples = {};
	int fd = syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);

	if (fd < 0)
		SKIP("this kernel has no perf events");
	samples.page = mmap(NULL, 4096 + SAMPLES_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(samples.page != MAP_FAILED);
	return samples;
}

/* The next one, or NULL. */
static const struct sample *next_sample(struct samples *from)
{
	while (from->read < from->page->data_head && from->read < SAMPLES_SIZE) {
		const struct sample *sample = (void *)((u8 *)from->page + from->page->data_offset + from->read);

		from->read += sample->header.size;
		if (sample->header.type == PERF_RECORD_SAMPLE)
			return sample;
	}
	return NULL;
}

/* What perf top does. It finds the module. */
TEST(profile)
{
	u64 from, to, all = 0, ours = 0, end;
	const struct sample *sample;
	struct samples samples;
	struct vm *vm;

	if (ktap_on_kvm())
		SKIP("about loft alone");
	module_range(&from, &to);
	vm = vm_create(.main = guest_device);
	samples = sample_each_us(100);
	end = now_us() + 1000000;
	while (now_us() < end) {
		CHECK_EQ(vcpu_run(&vm->vcpus[0]), 0);
		CHECK(device(&vm->vcpus[0]));
	}
	while ((sample = next_sample(&samples))) {
		all++;
		ours += sample->ip >= from && sample->ip <= to;
	}
	ktap_note("%lu of %lu samples are in the module", ours, all);
	CHECK(ours > 0);
}

static void guest_spins(u64 arg)
{
	set_up(0);
	timer_set_cval(TIMER_VIRTUAL, timer_counter(TIMER_VIRTUAL) + guest_us(500000));
	timer_set_ctl(TIMER_VIRTUAL, TIMER_ENABLE);
	wait_more(0, 0, false);
}

/* What perf kvm --guest record does. */
TEST(profile_of_a_guest)
{
	u64 in_guest = 0, in_place = 0;
	const struct sample *sample;
	struct samples samples;
	struct vm *vm;

	if (ktap_on_kvm())
		SKIP("about loft alone");
	vm = vm_create(.main = guest_spins, .gic = true);
	samples = sample_each_us(1000);
	vcpu_done(&vm->vcpus[0]);
	while ((sample = next_sample(&samples))) {
		if ((sample->header.misc & PERF_RECORD_MISC_CPUMODE_MASK) != PERF_RECORD_MISC_GUEST_KERNEL)
			continue;
		in_guest++;
		/* What it calls there is in this file, too. */
		in_place += sample->ip - (u64)guest_spins + 8192 < 2 * 8192;
	}
	ktap_note("%lu samples are in the guest, %lu of them where it spends its time", in_guest, in_place);
	if (!in_guest && !access("/dev/kvm", F_OK))
		SKIP("KVM is the one whom perf asks");
	EXPECT(in_place > 20);
}

/* Also after a case that has not come to its end: what it left on would show in the programs that follow. */
TEST(nothing_is_left_on)
{
	need_tracing();
	CHECK(all_off());
	run_everything();
}
