// SPDX-License-Identifier: GPL-2.0
/*
 * Devices' interrupts before the guest has said in GICD_ICFGRn how they are triggered: until then they are edges, so that
 * a device that is quicker than the guest's driver is not forgotten, and one that stays up is no storm.
 */
#include <sys/eventfd.h>
#include <unistd.h>

#include "gic.h"
#include "vm.h"

#define DEVICE SPI(3)

/* What the guest writes to GICD_ICFGRn after the device's first interrupt. */
enum { NOTHING, EDGE, LEVEL };

static u64 taken;

static void on_irq(struct guest_regs *regs)
{
	u32 intid = gic_ack();

	if (intid == GIC_SPURIOUS)
		return;
	GUEST_CHECK_EQ(intid, DEVICE);
	if (++taken == 10)
		gic_disable(DEVICE); /* a storm */
	gic_eoi(intid);
}

static void guest_late(u64 configuration)
{
	guest_irq_handler = on_irq;
	gic_init_distributor();
	gic_init_cpu();
	irq_enable();
	GUEST_SYNC(1); /* the device's interrupt */
	GUEST_CHECK(gic_is_pending(DEVICE));
	if (configuration != NOTHING)
		gic_edge(DEVICE, configuration == EDGE);
	GUEST_CHECK(gic_is_pending(DEVICE));
	gic_enable(DEVICE);
	guest_delay_us(500);
	GUEST_CHECK(!gic_is_pending(DEVICE));
	GUEST_SYNC2(2, taken);
	guest_delay_us(500);
	GUEST_SYNC2(3, taken);
}

static void guest_never(u64 arg)
{
	guest_late(NOTHING);
}

static void guest_edge(u64 arg)
{
	guest_late(EDGE);
}

static void guest_level(u64 arg)
{
	guest_late(LEVEL);
}

static void (*const guests[])(u64) = { guest_never, guest_edge, guest_level };

/* One interrupt, whatever it is configured as afterwards. */
TEST(pulse)
{
	for (u32 i = 0; i < ARRAY_SIZE(guests); i++) {
		struct vm *vm = vm_create(.main = guests[i], .gic = true);

		vcpu_sync(&vm->vcpus[0], 1);
		vm_irq(vm, DEVICE, 1);
		vm_irq(vm, DEVICE, 0);
		EXPECT_EQ(vcpu_sync(&vm->vcpus[0], 2), 1);
		vm_destroy(vm);
	}
}

/* A line that stays up is an edge as well; where it is a level later, that begins with its next rise. */
TEST(line_that_stays_up)
{
	for (u32 i = 0; i < ARRAY_SIZE(guests); i++) {
		struct vm *vm = vm_create(.main = guests[i], .gic = true);

		vcpu_sync(&vm->vcpus[0], 1);
		vm_irq(vm, DEVICE, 1);
		EXPECT_EQ(vcpu_sync(&vm->vcpus[0], 2), 1);
		vm_irq(vm, DEVICE, 0);
		vm_irq(vm, DEVICE, 1);
		EXPECT_EQ(vcpu_sync(&vm->vcpus[0], 3), i == LEVEL ? 10 : 2);
		vm_destroy(vm);
	}
}

TEST(eventfd)
{
	for (u32 i = 0; i < ARRAY_SIZE(guests); i++) {
		struct vm *vm = vm_create(.main = guests[i], .gic = true);
		struct kvm_irqfd irqfd = { .fd = CHECK_OK(eventfd(0, EFD_NONBLOCK)), .gsi = DEVICE - SPI(0) };

		CHECK_OK(ioctl(vm->fd, KVM_IRQFD, &irqfd));
		vcpu_sync(&vm->vcpus[0], 1);
		CHECK(write(irqfd.fd, &(u64){ 1 }, 8) == 8);
		EXPECT_EQ(vcpu_sync(&vm->vcpus[0], 2), 1);
		close(irqfd.fd);
		vm_destroy(vm);
	}
}
