// SPDX-License-Identifier: GPL-2.0
/* irqfds and ioeventfds over their whole life: sharing, removal, closing in every order, and all of it at once. */
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "gic.h"
#include "vm.h"

#define AT 0x0a000000UL
#define MATCH KVM_IOEVENTFD_FLAG_DATAMATCH
#define REMOVE KVM_IOEVENTFD_FLAG_DEASSIGN

static u64 count[32], stop, quick, raise_spi;

static int new_event(void)
{
	return CHECK_OK(eventfd(0, EFD_NONBLOCK));
}

static void signal_fd(int fd)
{
	CHECK(write(fd, &(u64){ 1 }, 8) == 8);
}

static u64 taken(int fd)
{
	u64 n = 0;

	return read(fd, &n, 8) == 8 ? n : 0;
}

/* Waits for a signal, and takes it. */
static bool arrives(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, ms) == 1 && taken(fd) == 1;
}

static int irqfd(int vm, int fd, u32 gsi, u32 flags, int resample)
{
	struct kvm_irqfd i = { .fd = fd, .gsi = gsi, .flags = flags, .resamplefd = resample };

	return ioctl(vm, KVM_IRQFD, &i);
}

static int attach(struct vm *vm, u32 gsi)
{
	int fd = new_event();

	CHECK_OK(irqfd(vm->fd, fd, gsi, 0, 0));
	return fd;
}

static int attach_resample(struct vm *vm, u32 gsi, int *resample)
{
	int fd = new_event();

	*resample = new_event();
	CHECK_OK(irqfd(vm->fd, fd, gsi, KVM_IRQFD_FLAG_RESAMPLE, *resample));
	return fd;
}

static void detach(struct vm *vm, int fd, u32 gsi)
{
	CHECK_OK(irqfd(vm->fd, fd, gsi, KVM_IRQFD_FLAG_DEASSIGN, 0));
}

struct routes {
	struct kvm_irq_routing head;
	struct kvm_irq_routing_entry entries[16];
};

static void set_routes(struct vm *vm, struct routes *r)
{
	CHECK_OK(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r->head));
}

static struct routes one_route(u32 gsi, u32 pin)
{
	return (struct routes){ .head.nr = 1, .entries[0] = { .gsi = gsi, .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip.pin = pin } };
}

static int ioeventfd(struct vm *vm, int fd, u64 addr, u32 len, u32 flags, u64 match)
{
	struct kvm_ioeventfd e = { .fd = fd, .addr = addr, .len = len, .flags = flags, .datamatch = match };

	return ioctl(vm->fd, KVM_IOEVENTFD, &e);
}

static void on_irq(struct guest_regs *regs)
{
	u32 intid = gic_ack();

	if (intid == GIC_SPURIOUS)
		return;
	WRITE_ONCE(count[intid - 32], count[intid - 32] + 1);
	/* As a driver does: an exit while the interrupt is active. Linux 7.2's KVM does not notice its end otherwise. */
	if (!quick)
		mmio_read32(GUEST_GICD + GICD_TYPER);
	gic_eoi(intid);
}

static void set_up(bool edge)
{
	guest_irq_handler = on_irq;
	gic_init_distributor();
	gic_init_cpu();
	for (u32 i = 0; i < 16; i++) {
		gic_edge(SPI(i), edge);
		gic_enable(SPI(i));
	}
	irq_enable();
}

/* Level-sensitive interrupts that are never taken: tells which are pending. */
static void guest_pending(u64 arg)
{
	gic_init_distributor();
	gic_init_cpu();
	for (u32 i = 0; i < 16; i++)
		gic_edge(SPI(i), false);
	for (;;)
		GUEST_SYNC2(0, mmio_read32(GUEST_GICD + GICD_ISPENDR + 4));
}

static u64 pending(struct vm *vm)
{
	return vcpu_sync(&vm->vcpus[0], 0);
}

static struct vm *waiting(void)
{
	struct vm *vm = vm_create(.main = guest_pending, .gic = true);

	CHECK_EQ(pending(vm), 0);
	return vm;
}

/* Handles interrupts, with nothing in the way that would make it exit; and raises one when asked to. */
static void guest_spin(u64 edge)
{
	set_up(edge);
	GUEST_SYNC(1);
	while (!READ_ONCE(stop)) {
		u32 intid = READ_ONCE(raise_spi);

		if (intid) {
			/* Before: the host asks again as soon as it has been handled. */
			WRITE_ONCE(raise_spi, 0);
			gic_set_pending(intid, true);
		}
	}
}

static void guest_spin_level(u64 arg)
{
	guest_spin(false);
}

static void guest_spin_edge(u64 arg)
{
	guest_spin(true);
}

static struct vm *spinning(void (*main)(u64))
{
	struct vm *vm = vm_create(.main = main, .gic = true);

	vcpu_sync(&vm->vcpus[0], 1);
	VM_GLOBAL(vm, quick) = !ktap_on_kvm();
	vcpu_start(&vm->vcpus[0]);
	return vm;
}

static void stop_spinning(struct vm *vm)
{
	VM_GLOBAL(vm, stop) = 1;
	vcpu_join(&vm->vcpus[0]);
}

static bool counted(struct vm *vm, u32 spi, u64 n)
{
	for (u64 end = now_us() + 5000000; now_us() < end; sleep_us(200))
		if (VM_GLOBAL(vm, count[spi]) >= n)
			return VM_GLOBAL(vm, count[spi]) == n;
	return false;
}

/* The end of an interrupt is reported while the guest runs on, once for each. */
TEST(resample)
{
	struct vm *vm = spinning(guest_spin_level);
	int resample, fd = attach_resample(vm, 3, &resample);

	for (u64 i = 1; i <= 50; i++) {
		signal_fd(fd);
		CHECK(arrives(resample, 2000));
		CHECK_EQ(VM_GLOBAL(vm, count[3]), i);
	}
	stop_spinning(vm);
	CHECK_EQ(taken(resample), 0);
}

/* What was signalled before it was an irqfd counts once, and its end is reported. */
TEST(resample_signalled_before)
{
	struct vm *vm = spinning(guest_spin_level);
	int resample = new_event(), fd = CHECK_OK(eventfd(7, EFD_NONBLOCK));

	CHECK_OK(irqfd(vm->fd, fd, 3, KVM_IRQFD_FLAG_RESAMPLE, resample));
	CHECK(arrives(resample, 2000));
	CHECK_EQ(VM_GLOBAL(vm, count[3]), 1);
	stop_spinning(vm);
}

/* So is the end of one that the guest has raised itself. */
TEST(resample_of_the_guests_own)
{
	struct vm *vm = spinning(guest_spin_level);
	int resample, other;

	attach_resample(vm, 3, &resample);
	attach_resample(vm, 4, &other);
	for (u64 i = 1; i <= 10; i++) {
		VM_GLOBAL(vm, raise_spi) = SPI(3);
		CHECK(arrives(resample, 2000));
		CHECK_EQ(VM_GLOBAL(vm, count[3]), i);
	}
	CHECK_EQ(taken(other), 0);
	stop_spinning(vm);
}

/* All who share a line are asked when it ends, whoever raised it. */
TEST(resample_shared)
{
	struct vm *vm = spinning(guest_spin_level);
	int ra, rb, rother, a = attach_resample(vm, 3, &ra), b = attach_resample(vm, 3, &rb);

	attach_resample(vm, 4, &rother);
	for (u64 i = 1; i <= 10; i++) {
		signal_fd(i & 1 ? a : b);
		CHECK(arrives(ra, 2000));
		CHECK(arrives(rb, 2000));
		CHECK_EQ(VM_GLOBAL(vm, count[3]), i);
	}
	detach(vm, a, 3);
	signal_fd(b);
	CHECK(arrives(rb, 2000));
	CHECK_EQ(taken(ra), 0);
	CHECK_EQ(taken(rother), 0);
	CHECK_EQ(VM_GLOBAL(vm, count[3]), 11);
	stop_spinning(vm);
}

/* The last of those who resample a line takes it down with him. */
TEST(resample_removed)
{
	struct vm *vm = waiting();
	int ra, rb, a = attach_resample(vm, 3, &ra), b = attach_resample(vm, 3, &rb);

	signal_fd(a);
	CHECK_EQ(pending(vm), 1 << 3);
	signal_fd(a); /* as high as before */
	detach(vm, a, 3);
	CHECK_EQ(pending(vm), 1 << 3);
	detach(vm, b, 3);
	CHECK_EQ(pending(vm), 0);
	CHECK_EQ(taken(ra) + taken(rb), 0); /* nobody has handled it */
}

/* The same when its eventfd is closed, a moment later. */
TEST(resample_closed)
{
	struct vm *vm = waiting();
	int resample, fd = attach_resample(vm, 3, &resample);

	signal_fd(fd);
	CHECK_EQ(pending(vm), 1 << 3);
	close(fd);
	for (u64 end = now_us() + 5000000; pending(vm);)
		CHECK(now_us() < end);
}

/* Closing one of two file descriptors closes nothing. */
TEST(duplicate_closed)
{
	struct vm *vm = spinning(guest_spin_edge);
	int fd = attach(vm, 3), copy = CHECK_OK(dup(fd));

	close(fd);
	signal_fd(copy);
	CHECK(counted(vm, 3, 1));
	stop_spinning(vm);
}

/* Without resampling the line of a level-sensitive interrupt is userspace's to lower. */
TEST(level_without_resample)
{
	struct vm *vm = waiting();
	int fd = attach(vm, 3);

	signal_fd(fd);
	CHECK_EQ(pending(vm), 1 << 3);
	vm_irq(vm, SPI(3), 0);
	CHECK_EQ(pending(vm), 0);
}

/* New routes take the resampling along. */
TEST(resample_rerouted)
{
	struct vm *vm = spinning(guest_spin_level);
	int resample, fd = attach_resample(vm, 3, &resample);
	struct routes r;

	for (u32 i = 0; i < 10; i++) {
		r = one_route(3, 5 + (i & 1));
		set_routes(vm, &r);
		signal_fd(fd);
		CHECK(arrives(resample, 2000));
		CHECK_EQ(VM_GLOBAL(vm, count[5]), i / 2 + 1);
		CHECK_EQ(VM_GLOBAL(vm, count[6]), (i + 1) / 2);
	}
	/* Nowhere, and back. KVM tries for a moment, in the background, so it is given that moment. */
	r.head.nr = 0;
	set_routes(vm, &r);
	signal_fd(fd);
	sleep_us(50000);
	r = one_route(3, 3);
	set_routes(vm, &r);
	CHECK(!arrives(resample, 20));
	signal_fd(fd);
	CHECK(arrives(resample, 2000));
	CHECK_EQ(VM_GLOBAL(vm, count[3]), 1);
	stop_spinning(vm);
}

/* A pin beyond the interrupts that there are, and a message without an ITS: the event goes nowhere. */
TEST(routes_to_nowhere)
{
	struct vm *vm = spinning(guest_spin_edge);
	struct routes r = { .head.nr = 3, .entries = { { .gsi = 1, .type = KVM_IRQ_ROUTING_MSI, .u.msi = { .address_lo = 0x8090040, .data = 33 } },
						       { .gsi = 2, .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip.pin = 900 },
						       { .gsi = 4095, .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip.pin = 7 } } };
	int a, b, c, d, resample;
	struct kvm_msi msi = { .address_lo = 0x8090040, .data = 33 };

	set_routes(vm, &r);
	a = attach(vm, 1);
	b = attach(vm, 2);
	c = attach(vm, 4095);
	d = attach_resample(vm, 2, &resample);
	attach(vm, 0xffffffff);
	for (u64 i = 1; i <= 3; i++) {
		signal_fd(a);
		signal_fd(b);
		signal_fd(c);
		signal_fd(d);
		CHECK(counted(vm, 7, i));
	}
	CHECK_EQ(taken(a) + taken(b) + taken(c) + taken(d), 0);
	detach(vm, d, 2);
	EXPECT_ERRNO(ioctl(vm->fd, KVM_SIGNAL_MSI, &msi), ENODEV);
	msi.flags = 2;
	EXPECT_ERRNO(ioctl(vm->fd, KVM_SIGNAL_MSI, &msi), EINVAL);
	EXPECT_ERRNO(ioctl(vm_create()->fd, KVM_SIGNAL_MSI, &msi), EINVAL);
	stop_spinning(vm);
	for (u32 i = 0; i < 32; i++)
		CHECK_EQ(VM_GLOBAL(vm, count[i]), i == 7 ? 3 : 0);
}

/* Initialising the interrupt controller sets the default routes. */
TEST(routes_before_the_controller)
{
	struct vm *vm = vm_create(.main = guest_pending, .gic = true, .no_gic_init = true);
	struct routes r = one_route(3, 5);

	set_routes(vm, &r);
	gic_init(vm);
	signal_fd(attach(vm, 3));
	CHECK_EQ(pending(vm), 1 << 3);
}

/* One eventfd is one irqfd, in whichever VM. */
TEST(busy)
{
	struct vm *vm = vm_create(.gic = true), *other = vm_create(.gic = true);
	int fd = CHECK_OK(eventfd(5, EFD_NONBLOCK)), resample = new_event();

	CHECK_OK(irqfd(vm->fd, fd, 1, 0, 0));
	CHECK_EQ(taken(fd), 5); /* what was signalled before is not taken */
	signal_fd(fd);
	EXPECT_ERRNO(irqfd(other->fd, fd, 1, 0, 0), EBUSY);
	EXPECT_ERRNO(irqfd(other->fd, fd, 1, KVM_IRQFD_FLAG_RESAMPLE, resample), EBUSY);
	EXPECT_OK(irqfd(other->fd, fd, 1, KVM_IRQFD_FLAG_DEASSIGN, 0));
	EXPECT_ERRNO(irqfd(other->fd, fd, 1, 0, 0), EBUSY);
	EXPECT_OK(irqfd(vm->fd, fd, 2, KVM_IRQFD_FLAG_DEASSIGN, 0)); /* another GSI's */
	EXPECT_ERRNO(irqfd(other->fd, fd, 1, 0, 0), EBUSY);
	detach(vm, fd, 1);
	EXPECT_OK(irqfd(other->fd, fd, 1, 0, 0));
	/* An irqfd may itself be what another one's end is told to. */
	EXPECT_OK(irqfd(vm->fd, resample, 4, KVM_IRQFD_FLAG_RESAMPLE, fd));
}

static void guest_stores(u64 arg)
{
	for (u64 i = 0;; i++) {
		GUEST_SYNC(i);
		mmio_write32(AT, 7);
	}
}

/* The next store ends in userspace, or does not. */
static bool exits(struct vm *vm)
{
	struct vcpu *vcpu = &vm->vcpus[0];
	struct guest_message m;

	CHECK_EQ(vcpu_run(vcpu), 0);
	if (vcpu_message(vcpu, &m))
		return false;
	CHECK_EQ(vcpu->run->exit_reason, KVM_EXIT_MMIO);
	CHECK_EQ(vcpu->run->mmio.phys_addr, AT);
	CHECK_EQ(vcpu_next(vcpu).command, GUEST_CMD_SYNC);
	return true;
}

/* An SError that the guest has taken is not there again when the vector has answered its store. */
static void on_serror(struct guest_regs *regs)
{
	count[0]++;
}

static void guest_serror(u64 arg)
{
	guest_serror_handler = on_serror;
	GUEST_SYNC(1);
	__asm__ volatile("msr daifclr, #4\n\tisb" : : : "memory");
	GUEST_CHECK_EQ(READ_ONCE(count[0]), 1);
	for (int i = 0; i < 3; i++)
		mmio_write32(AT, i);
	isb();
	GUEST_CHECK_EQ(READ_ONCE(count[0]), 1);
}

TEST(serror_before_a_store)
{
	struct vm *vm = vm_create(.main = guest_serror);
	struct kvm_ioeventfd doorbell = { .fd = new_event(), .addr = AT, .len = 4 };
	struct kvm_vcpu_events events = { .exception.serror_pending = 1 };

	CHECK_OK(ioctl(vm->fd, KVM_IOEVENTFD, &doorbell));
	vcpu_sync(&vm->vcpus[0], 1);
	CHECK_OK(ioctl(vm->vcpus[0].fd, KVM_SET_VCPU_EVENTS, &events));
	vcpu_done(&vm->vcpus[0]);
	CHECK_EQ(taken(doorbell.fd), 3);
	CHECK_OK(ioctl(vm->vcpus[0].fd, KVM_GET_VCPU_EVENTS, &events));
	CHECK_EQ(events.exception.serror_pending, 0);
}

TEST(ioeventfd_life)
{
	struct vm *vm = vm_create(.main = guest_stores);
	int fd = new_event(), other = new_event(), keep;

	vcpu_sync(&vm->vcpus[0], 0);
	CHECK(exits(vm));
	CHECK_OK(ioeventfd(vm, fd, AT, 4, 0, 0));
	CHECK(!exits(vm));
	CHECK_EQ(taken(fd), 1);
	CHECK_OK(ioeventfd(vm, fd, AT, 4, REMOVE, 0));
	CHECK(exits(vm));
	/* What waits for other stores to the same address does not mind this one, nor stand in its way. */
	CHECK_OK(ioeventfd(vm, fd, AT, 2, 0, 0));
	CHECK_OK(ioeventfd(vm, fd, AT, 8, 0, 0));
	CHECK_OK(ioeventfd(vm, fd, AT, 4, MATCH, 6));
	CHECK_OK(ioeventfd(vm, fd, AT, 4, MATCH, 8));
	CHECK_OK(ioeventfd(vm, fd, AT, 4, MATCH, 7UL << 32 | 7)); /* more than four bytes hold */
	CHECK_OK(ioeventfd(vm, fd, AT - 4, 8, 0, 0));
	CHECK_OK(ioeventfd(vm, fd, AT, 4, KVM_IOEVENTFD_FLAG_PIO, 0));
	CHECK_OK(ioeventfd(vm, fd, AT, 0, KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY, 0));
	CHECK(exits(vm));
	CHECK_EQ(taken(fd), 0);
	CHECK_OK(ioeventfd(vm, other, AT, 4, MATCH, 7));
	CHECK(!exits(vm));
	CHECK_EQ(taken(fd), 0);
	CHECK_EQ(taken(other), 1);
	/* Closed, it is still there; and so it is when the VM's own file is closed. */
	keep = CHECK_OK(dup(other));
	close(other);
	CHECK(!exits(vm));
	CHECK_OK(ioeventfd(vm, fd, AT, 2, REMOVE, 0));
	CHECK_OK(ioeventfd(vm, fd, AT, 4, REMOVE | KVM_IOEVENTFD_FLAG_PIO, 0));
	close(vm->fd);
	CHECK(!exits(vm));
	CHECK_EQ(taken(keep), 2);
}

#define MANY 512
static int events[MANY];

static void guest_many(u64 arg)
{
	GUEST_SYNC(1);
	for (u32 i = 0; i < MANY; i++) {
		mmio_write32(AT, i);
		if (i % 2)
			mmio_write16(AT + 16 * i, i);
	}
}

/* As a machine with many queues has them: one address with many values, and many addresses. */
TEST(ioeventfd_many)
{
	struct vm *vm = vm_create(.main = guest_many);

	for (u32 i = 0; i < MANY; i++) {
		u32 n = i * 167 % MANY;

		events[n] = new_event();
		CHECK_OK(ioeventfd(vm, events[n], AT, 4, MATCH, n));
		if (n % 3)
			CHECK_OK(ioeventfd(vm, events[n], AT + 16 * n, 2, MATCH, n));
		else if (n)
			CHECK_OK(ioeventfd(vm, events[n], AT + 16 * n, 0, 0, 0));
	}
	vcpu_sync(&vm->vcpus[0], 1);
	vcpu_done(&vm->vcpus[0]);
	for (u32 n = 0; n < MANY; n++)
		CHECK_EQ(taken(events[n]), 1 + n % 2);
	for (u32 n = 0; n < MANY; n++)
		CHECK_OK(ioeventfd(vm, events[n], AT, 4, MATCH | REMOVE, n));
}

#define STORES 3000
static u64 exited;

static void guest_store_many(u64 arg)
{
	GUEST_SYNC(1);
	for (u32 i = 0; i < STORES; i++)
		mmio_write32(AT, i);
}

static bool on_store(struct vcpu *vcpu)
{
	exited++;
	return vcpu->run->exit_reason == KVM_EXIT_MMIO && vcpu->run->mmio.phys_addr == AT;
}

static volatile bool ended;

static void *run_to_end(void *arg)
{
	vcpu_done(arg);
	ended = true;
	return NULL;
}

/* Each store arrives once, whatever is being assigned meanwhile. */
TEST(ioeventfd_race)
{
	struct vm *vm = vm_create(.main = guest_store_many);
	static const u32 sizes[] = { 0, 1, 2, 4, 8 };
	int fd = new_event();
	u64 rounds = 0, events;
	pthread_t thread;

	vm->vcpus[0].on_exit = on_store;
	vcpu_sync(&vm->vcpus[0], 1);
	CHECK(pthread_create(&thread, NULL, run_to_end, &vm->vcpus[0]) == 0);
	for (; !ended; rounds++) {
		u32 size = sizes[rounds % ARRAY_SIZE(sizes)];

		CHECK_OK(ioeventfd(vm, fd, AT, 4, 0, 0));
		CHECK_OK(ioeventfd(vm, fd, AT + 8, size, 0, 0));
		CHECK_OK(ioeventfd(vm, fd, AT, 4, REMOVE, 0));
		CHECK_OK(ioeventfd(vm, fd, AT + 8, size, REMOVE, 0));
	}
	pthread_join(thread, NULL);
	events = taken(fd);
	ktap_note("%lu rounds, %lu events, %lu exits", rounds, events, exited);
	CHECK_EQ(events + exited, STORES);
}

/* The eventfd stays when the VM goes, and is then nobody's irqfd. */
TEST(vm_goes_first)
{
	struct vm *vm = waiting(), *next = waiting();
	int resample, a = attach(vm, 1), b = attach_resample(vm, 2, &resample);

	signal_fd(a);
	signal_fd(b);
	CHECK_EQ(taken(a) + taken(b), 0);
	CHECK_EQ(pending(vm), 1 << 1 | 1 << 2);
	/* The file of the VM is what counts; here its vCPU's and its controller's are still open. */
	close(vm->fd);
	signal_fd(a);
	signal_fd(b);
	CHECK_EQ(taken(a), 1);
	CHECK_EQ(taken(b), 1);
	CHECK_OK(irqfd(next->fd, a, 4, 0, 0));
	signal_fd(a);
	CHECK_EQ(taken(a), 0);
	CHECK_EQ(pending(next), 1 << 4);
	CHECK_EQ(pending(vm), 1 << 1); /* the one that was not resampled */
}

/* Everything at once: signals from two threads, irqfds coming and going, routes changing, eventfds and the VM being closed. */
#define FDS 8
static int fds[FDS];

static void *signaller(void *arg)
{
	for (u64 i = (u64)arg; !ended; i++)
		if (write(fds[i % FDS], &(u64){ 1 }, 8) < 0)
			CHECK(errno == EAGAIN || errno == EBADF);
	return NULL;
}

static void race_once(u32 seed, u64 until)
{
	struct vm *vm = spinning(guest_spin_level);
	int resamples[FDS], fresh;
	struct routes r = { .head.nr = 4 };

	for (u32 i = 0; i < FDS; i++)
		resamples[i] = new_event();
	for (u32 n = seed; now_us() < until; n++) {
		u32 at = n % FDS;

		switch (n * 2654435761u >> 28 & 7) {
		case 0:
			/* In one step: the signallers' descriptor is always an eventfd, now another one. */
			fresh = new_event();
			CHECK_OK(dup2(fresh, fds[at]));
			close(fresh);
			break;
		case 1:
		case 2:
			CHECK(irqfd(vm->fd, fds[at], at, 0, 0) == 0 || errno == EBUSY);
			break;
		case 3:
		case 4:
			CHECK(irqfd(vm->fd, fds[at], at, KVM_IRQFD_FLAG_RESAMPLE, resamples[at]) == 0 || errno == EBUSY);
			break;
		case 5:
			detach(vm, fds[at], at);
			break;
		case 6:
			for (u32 i = 0; i < 4; i++)
				r.entries[i] = (struct kvm_irq_routing_entry){ .gsi = (n + i) % FDS, .type = i == 3 ? KVM_IRQ_ROUTING_MSI : KVM_IRQ_ROUTING_IRQCHIP,
									       .u.irqchip.pin = i == 3 ? 0 : n * 7 % 16 };
			set_routes(vm, &r);
			break;
		case 7:
			vm_irq(vm, SPI(n % 16), 0); /* a line that nobody resamples would stay high */
			break;
		}
	}
	/* So that the guest comes to its end; what is closed now is closed while it is signalled. */
	for (u32 i = 0; i < FDS; i++)
		if (i % 2)
			detach(vm, fds[i], i);
	if (seed % 2) {
		for (u32 i = 0; i < FDS; i += 2)
			detach(vm, fds[i], i);
	} else {
		r.head.nr = 0;
		set_routes(vm, &r);
	}
	for (u32 i = 0; i < 16; i++)
		vm_irq(vm, SPI(i), 0);
	stop_spinning(vm);
	vm_destroy(vm);
	for (u32 i = 0; i < FDS; i++)
		close(resamples[i]);
}

TEST_SECONDS(everything_at_once, 60)
{
	u64 end = now_us() + 5000000;
	pthread_t threads[2];

	for (u32 i = 0; i < FDS; i++)
		fds[i] = new_event();
	for (u64 i = 0; i < 2; i++)
		CHECK(pthread_create(&threads[i], NULL, signaller, (void *)(i * 3)) == 0);
	for (u32 seed = 1; now_us() < end; seed += 1001)
		race_once(seed, now_us() + 400000);
	ended = true;
	for (u32 i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
}
