// SPDX-License-Identifier: GPL-2.0
/* Eventfds in both directions: irqfd (edge and level with resample), ioeventfd, and interrupt routes. */
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "gic.h"
#include "vm.h"

#define DOORBELL_AREA 0x0a000000UL

static u64 count[128];

static void on_irq(struct guest_regs *regs)
{
	u32 intid = gic_ack();

	if (intid == GIC_SPURIOUS)
		return;
	count[intid]++;
	gic_eoi(intid);
}

static void set_up(void)
{
	guest_irq_handler = on_irq;
	gic_init_distributor();
	gic_init_cpu();
	for (u32 i = 0; i < 16; i++) {
		gic_edge(SPI(i), true);
		gic_enable(SPI(i));
	}
	irq_enable();
}

static int attach(struct vm *vm, u32 gsi, u32 flags, int resample)
{
	struct kvm_irqfd irqfd = { .fd = CHECK_OK(eventfd(0, EFD_NONBLOCK)), .gsi = gsi, .flags = flags, .resamplefd = resample };

	CHECK_OK(ioctl(vm->fd, KVM_IRQFD, &irqfd));
	return irqfd.fd;
}

static void detach(struct vm *vm, int fd, u32 gsi)
{
	struct kvm_irqfd irqfd = { .fd = fd, .gsi = gsi, .flags = KVM_IRQFD_FLAG_DEASSIGN };

	CHECK_OK(ioctl(vm->fd, KVM_IRQFD, &irqfd));
}

static void signal_fd(int fd)
{
	CHECK(write(fd, &(u64){ 1 }, 8) == 8);
}

/* Waits for a sync each time, so that what the host did before is seen by then. */
static void guest_loop(u64 arg)
{
	set_up();
	for (u64 i = 0;; i++) {
		GUEST_SYNC(i);
		guest_delay_us(300);
	}
}

static void steps(struct vm *vm, int n)
{
	while (n--)
		CHECK_EQ(vcpu_next(&vm->vcpus[0]).command, GUEST_CMD_SYNC);
}

/* Interrupts from eventfds may come a little later: steps until there are n, and then some more, for one too many. */
static void until(struct vm *vm, volatile u64 *counter, u64 n)
{
	for (int i = 0; i < 500 && *counter < n; i++)
		steps(vm, 1);
	steps(vm, 2);
	CHECK_EQ(*counter, n);
}
#define UNTIL(vm, var, n) until(vm, &VM_GLOBAL(vm, var), n)

TEST(edge)
{
	struct vm *vm = vm_create(.main = guest_loop, .gic = true);
	int a, b;

	steps(vm, 1);
	a = attach(vm, 3, 0, 0);
	b = attach(vm, 4, 0, 0);
	for (u64 i = 1; i <= 5; i++) {
		signal_fd(a);
		UNTIL(vm, count[SPI(3)], i); /* GSI n is SPI n from the start */
		CHECK_EQ(VM_GLOBAL(vm, count[SPI(4)]), 0);
	}
	CHECK(read(a, &(u64){ 0 }, 8) == -1); /* the counter is taken */
	signal_fd(b);
	UNTIL(vm, count[SPI(4)], 1);
	detach(vm, a, 3);
	signal_fd(a);
	UNTIL(vm, count[SPI(3)], 5);
	close(b); /* closing it detaches it */
	steps(vm, 1);
	b = attach(vm, 4, 0, 0);
	signal_fd(b);
	UNTIL(vm, count[SPI(4)], 2);
}

/* An event that was signalled before it was attached counts. */
TEST(signalled_before)
{
	struct vm *vm = vm_create(.main = guest_loop, .gic = true);
	struct kvm_irqfd irqfd = { .fd = CHECK_OK(eventfd(1, 0)), .gsi = 2 };

	steps(vm, 1);
	CHECK_OK(ioctl(vm->fd, KVM_IRQFD, &irqfd));
	UNTIL(vm, count[SPI(2)], 1);
}

TEST(from_another_thread_to_a_sleeper)
{
	extern void guest_sleep_until(u64);
	struct vm *vm = vm_create(.main = guest_sleep_until, .gic = true);
	int fd = attach(vm, 5, 0, 0);

	vcpu_sync(&vm->vcpus[0], 1);
	vcpu_start(&vm->vcpus[0]);
	for (u64 i = 1; i <= 20; i++) {
		signal_fd(fd);
		while (VM_GLOBAL(vm, count[SPI(5)]) < i)
			sleep_us(500);
	}
	vcpu_join(&vm->vcpus[0]);
}

void guest_sleep_until(u64 arg);
void guest_sleep_until(u64 arg)
{
	set_up();
	GUEST_SYNC(1);
	irq_disable();
	while (READ_ONCE(count[SPI(5)]) < 20) {
		wfi();
		irq_enable();
		isb();
		irq_disable();
	}
}

/* Level with resample: up until the guest ends it, then userspace is asked whether it is still up. */
static u64 level_seen;

static void on_level(struct guest_regs *regs)
{
	u32 intid = gic_ack();

	if (intid == GIC_SPURIOUS)
		return;
	level_seen++;
	if (level_seen > 1000)
		GUEST_FAIL("endless", intid, level_seen);
	/* As a driver's handler does, it reads something of its device: an exit while the interrupt is active. */
	(void)mmio_read32(GUEST_GICD + GICD_TYPER);
	gic_eoi(intid);
}

static void guest_resample(u64 arg)
{
	set_up();
	guest_irq_handler = on_level;
	gic_edge(SPI(7), false);
	for (u64 i = 0;; i++) {
		GUEST_SYNC(i);
		guest_delay_us(300);
	}
}

static bool take(int fd)
{
	u64 n;

	return read(fd, &n, 8) == 8;
}

TEST(level_with_resample)
{
	struct vm *vm = vm_create(.main = guest_resample, .gic = true);
	int resample = CHECK_OK(eventfd(0, EFD_NONBLOCK)), fd;

	steps(vm, 1);
	fd = attach(vm, 7, KVM_IRQFD_FLAG_RESAMPLE, resample);
	CHECK(!take(resample));
	for (u64 i = 1; i <= 5; i++) {
		signal_fd(fd);
		UNTIL(vm, level_seen, i); /* the end lowered the line: once, although level-sensitive */
		CHECK(take(resample));
		CHECK(!take(resample));
	}
	/* Still up, says the device: signalled again after the resample. */
	signal_fd(fd);
	for (u64 i = 6; i <= 10; i++) {
		UNTIL(vm, level_seen, i);
		CHECK(take(resample));
		signal_fd(fd);
	}
	detach(vm, fd, 7);
}

/* Routes: GSI to pin, changed while attached. */
TEST(routes)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry entries[2];
	} r = { .head.nr = 2, .entries = { { .gsi = 10, .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip.pin = 1 },
					   { .gsi = 11, .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip.pin = 2 } } };
	struct vm *vm = vm_create(.main = guest_loop, .gic = true);
	int fd;

	steps(vm, 1);
	CHECK_OK(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r));
	fd = attach(vm, 10, 0, 0);
	signal_fd(fd);
	UNTIL(vm, count[SPI(1)], 1);
	r.entries[0].u.irqchip.pin = 9;
	CHECK_OK(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r));
	signal_fd(fd);
	UNTIL(vm, count[SPI(9)], 1);
	CHECK_EQ(VM_GLOBAL(vm, count[SPI(1)]), 1);
	/* No route: no interrupt, no error. */
	r.head.nr = 0;
	CHECK_OK(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r));
	signal_fd(fd);
	UNTIL(vm, count[SPI(9)], 1);
	CHECK_EQ(VM_GLOBAL(vm, count[SPI(10)]), 0);
}

static int doorbell(struct vm *vm, u64 addr, u32 len, u32 flags, u64 match)
{
	struct kvm_ioeventfd e = { .fd = CHECK_OK(eventfd(0, EFD_NONBLOCK)), .addr = addr, .len = len, .flags = flags, .datamatch = match };

	CHECK_OK(ioctl(vm->fd, KVM_IOEVENTFD, &e));
	return e.fd;
}

static u64 taken(int fd)
{
	u64 n = 0;

	return read(fd, &n, 8) == 8 ? n : 0;
}

static void guest_kick(u64 arg)
{
	mmio_write32(DOORBELL_AREA, 0); /* any value, four bytes */
	mmio_write32(DOORBELL_AREA, 99);
	mmio_write32(DOORBELL_AREA + 8, 5); /* matches */
	mmio_write32(DOORBELL_AREA + 8, 7); /* matches the other */
	mmio_write16(DOORBELL_AREA + 16, 0x1234);
	mmio_write64(DOORBELL_AREA + 24, 0x1122334455667788);
	mmio_write8(DOORBELL_AREA + 32, 1); /* any length */
	mmio_write64(DOORBELL_AREA + 32, 1);
	mmio_write32(DOORBELL_AREA + 40, 0xffffffff); /* the match is 32 bits wide */
	GUEST_SYNC(1);
	/* These are userspace's. */
	mmio_write16(DOORBELL_AREA, 1); /* another length */
	mmio_write32(DOORBELL_AREA + 8, 6); /* another value */
	mmio_write32(DOORBELL_AREA + 4, 0); /* another address */
	(void)mmio_read32(DOORBELL_AREA); /* a read */
}

static void expect_exit(struct vcpu *vcpu, u64 addr, bool write)
{
	CHECK_EQ(vcpu_run(vcpu), 0);
	CHECK_EQ(vcpu->run->exit_reason, KVM_EXIT_MMIO);
	CHECK_EQ(vcpu->run->mmio.phys_addr, addr);
	CHECK_EQ(vcpu->run->mmio.is_write, write);
}

TEST(ioeventfd)
{
	const u32 match = KVM_IOEVENTFD_FLAG_DATAMATCH;
	struct vm *vm = vm_create(.main = guest_kick);
	struct vcpu *vcpu = &vm->vcpus[0];
	int any = doorbell(vm, DOORBELL_AREA, 4, 0, 0), five = doorbell(vm, DOORBELL_AREA + 8, 4, match, 5),
	    seven = doorbell(vm, DOORBELL_AREA + 8, 4, match, 7), half = doorbell(vm, DOORBELL_AREA + 16, 2, match, 0x1234),
	    wide = doorbell(vm, DOORBELL_AREA + 24, 8, match, 0x1122334455667788), length = doorbell(vm, DOORBELL_AREA + 32, 0, 0, 0),
	    ones = doorbell(vm, DOORBELL_AREA + 40, 4, match, 0xffffffff);

	vcpu_sync(vcpu, 1); /* not one exit so far */
	CHECK_EQ(taken(any), 2);
	CHECK_EQ(taken(five), 1);
	CHECK_EQ(taken(seven), 1);
	CHECK_EQ(taken(half), 1);
	CHECK_EQ(taken(wide), 1);
	CHECK_EQ(taken(length), 2);
	CHECK_EQ(taken(ones), 1);
	expect_exit(vcpu, DOORBELL_AREA, true);
	expect_exit(vcpu, DOORBELL_AREA + 8, true);
	expect_exit(vcpu, DOORBELL_AREA + 4, true);
	expect_exit(vcpu, DOORBELL_AREA, false);
	CHECK_EQ(taken(any) + taken(five) + taken(seven), 0);
	vcpu_done(vcpu);
}

/* One eventfd in both roles: the guest's own store becomes its interrupt, without userspace. */
static void guest_ring(u64 arg)
{
	set_up();
	GUEST_SYNC(1);
	for (u64 i = 1; i <= 20; i++) {
		mmio_write32(DOORBELL_AREA, 1);
		while (READ_ONCE(count[SPI(6)]) < i)
			;
	}
}

TEST(doorbell_to_interrupt)
{
	struct vm *vm = vm_create(.main = guest_ring, .gic = true);
	int fd = attach(vm, 6, 0, 0);
	struct kvm_ioeventfd e = { .fd = fd, .addr = DOORBELL_AREA, .len = 4 };

	CHECK_OK(ioctl(vm->fd, KVM_IOEVENTFD, &e));
	vcpu_sync(&vm->vcpus[0], 1);
	vcpu_done(&vm->vcpus[0]);
}
