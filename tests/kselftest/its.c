// SPDX-License-Identifier: GPL-2.0
/* Messages become interrupts: the ITS's commands, and LPIs from every source to their handler. */
#include <sys/eventfd.h>
#include <unistd.h>

#include "abi.h"
#include "msi.h"

/* ---- What the guest sees ---- */

static struct its_memory its_memory;
static u64 count[ITS_CPUS][128], order[256], order_n, ready, over;

static void on_lpi(struct guest_regs *regs)
{
	u32 intid = gic_ack();

	if (intid == GIC_SPURIOUS)
		return;
	gic_eoi(intid);
	if (intid < LPI(0) || intid >= LPI(128))
		GUEST_FAIL("not an LPI of this test", intid, 0);
	if (guest_self()->index == 0 && order_n < ARRAY_SIZE(order))
		order[order_n++] = intid;
	atomic_inc(&count[guest_self()->index][intid - LPI(0)]);
}

static u64 counted(u32 n)
{
	u64 sum = 0;

	for (u32 i = 0; i < ITS_CPUS; i++)
		sum += load_acquire(&count[i][n]);
	return sum;
}

static void settle(void)
{
	guest_delay_us(200);
	isb();
}

/* LPI n has come `times` times to `cpu`, and nowhere else since `before`. */
static void expect_at(u64 cpu, u32 n, u64 times)
{
	while (load_acquire(&count[cpu][n]) < times)
		;
	settle();
	GUEST_CHECK_EQ(count[cpu][n], times);
}

static void expect_none(u32 n, u64 times)
{
	settle();
	GUEST_CHECK_EQ(counted(n), times);
}

/* The controller, the ITS and all redistributors; device 0 to 15 with an ITT each; collection n for vCPU n. */
static void begin(u32 cpus, u32 queue_pages, int kind)
{
	guest_irq_handler = on_lpi;
	gic_init_distributor();
	gic_init_cpu();
	its_start(&its_memory, queue_pages, kind);
	for (u32 i = 0; i < 128; i++)
		lpi_configure(LPI(i), 0xa0, true);
	for (u32 i = 0; i < cpus; i++)
		lpis_on(i);
	for (u32 i = 0; i < 16; i++)
		its_mapd(i, its_memory.itt[i], ITT_BITS, true);
	for (u32 i = 0; i < cpus; i++)
		its_mapc(i, i, true);
	irq_enable();
}

static struct vm *its_vm(void (*main)(u64), u32 cpus)
{
	struct vm *vm = vm_create(.main = main, .gic = true, .vcpus = cpus);

	its_create(vm, GUEST_ITS);
	return vm;
}

static void guest_registers(u64 arg)
{
	u64 typer = mmio_read64(GUEST_ITS + GITS_TYPER);

	GUEST_CHECK_EQ(mmio_read32(GUEST_GICD + GICD_TYPER) >> 17 & 1, 1); /* LPIs */
	GUEST_CHECK(mmio_read64(gic_redist() + GICR_TYPER) & 1);
	GUEST_CHECK_EQ(typer, mmio_read32(GUEST_ITS + GITS_TYPER) | (u64)mmio_read32(GUEST_ITS + GITS_TYPER + 4) << 32);
	GUEST_CHECK_EQ(mmio_read32(GUEST_ITS + GITS_PIDR2) >> 4, 3);
	/* In halves as well. */
	mmio_write32(GUEST_ITS + GITS_CBASER + 4, 1u << 31);
	mmio_write32(GUEST_ITS + GITS_CBASER, 0x40120000 | 3);
	GUEST_CHECK_EQ(mmio_read64(GUEST_ITS + GITS_CBASER) & (GITS_VALID | 0xffffffff03ff), GITS_VALID | 0x40120000 | 3);
	mmio_write32(GUEST_ITS + GITS_CBASER + 4, 0);
	/* Disabled, it does not run commands, and keeps what is in the queue. */
	mmio_write32(GUEST_ITS + GITS_CWRITER, 0x60);
	GUEST_CHECK_EQ(mmio_read64(GUEST_ITS + GITS_CWRITER), 0x60);
	GUEST_CHECK_EQ(mmio_read64(GUEST_ITS + GITS_CREADR), 0);
	GUEST_CHECK_EQ(mmio_read32(GUEST_ITS + GITS_CTLR), 0);
	mmio_write64(GUEST_ITS + GITS_CREADR, 0x60); /* read-only */
	GUEST_CHECK_EQ(mmio_read64(GUEST_ITS + GITS_CREADR), 0);
	mmio_write32(GUEST_ITS + GITS_CTLR, GITS_CTLR_ENABLED); /* incomplete */
	GUEST_CHECK_EQ(mmio_read32(GUEST_ITS + GITS_CTLR), 0);
	GUEST_CHECK_EQ(mmio_read32(GUEST_ITS + 0x40), 0);
	mmio_write32(GUEST_ITS + 0x40, ~0u);
	/* The page that messages are written to is for devices: the guest reads nothing there, and its store is no message. */
	GUEST_CHECK_EQ(mmio_read32(GUEST_ITS + GITS_TRANSLATER), 0);
	mmio_write32(GUEST_ITS + GITS_TRANSLATER, 5);
}

TEST(guest_view)
{
	vcpu_done(&its_vm(guest_registers, 1)->vcpus[0]);
}

/* Without an ITS there are no LPIs. */
static void guest_without(u64 arg)
{
	GUEST_CHECK_EQ(mmio_read32(GUEST_GICD + GICD_TYPER) >> 17 & 1, 0);
	GUEST_CHECK_EQ(mmio_read64(gic_redist() + GICR_TYPER) & 1, 0);
	mmio_write32(gic_redist() + GICR_CTLR, GICR_CTLR_ENABLE_LPIS);
	GUEST_CHECK_EQ(mmio_read32(gic_redist() + GICR_CTLR) & 1, 0);
}

TEST(no_its)
{
	vcpu_done(&vm_create(.main = guest_without, .gic = true)->vcpus[0]);
}

/* One vCPU: what each command does. */
static void commands(int kind)
{
	begin(1, 1, kind);
	/* MAPTI, INT. */
	its_mapti(3, 0, LPI(0), 0);
	its_mapti(3, 1, LPI(1), 0);
	its_int(3, 0);
	expect_at(0, 0, 1);
	its_int(3, 1);
	expect_at(0, 1, 1);
	/* MAPI: the event's number is the LPI's. Its device has events up to 511 only, another one has more. */
	its_mapi(3, LPI(2), 0);
	its_int(3, LPI(2));
	expect_none(2, 0);
	its_mapd(4, its_memory.itt[4], 14, true);
	its_mapi(4, LPI(2), 0);
	its_int(4, LPI(2));
	expect_at(0, 2, 1);
	/* The same LPI for two events. */
	its_mapti(5, 7, LPI(0), 0);
	its_int(5, 7);
	expect_at(0, 0, 2);
	/* DISCARD of the one leaves the other. */
	its_discard(5, 7);
	its_int(5, 7);
	expect_none(0, 2);
	its_int(3, 0);
	expect_at(0, 0, 3);
	/* Mapped twice: the first one counts. */
	its_mapti(3, 0, LPI(1), 0);
	its_int(3, 0);
	expect_at(0, 0, 4);
	expect_none(1, 1);
	its_discard(3, 0);
	its_mapti(3, 0, LPI(1), 0);
	its_int(3, 0);
	expect_at(0, 1, 2);
	/* A collection that is not mapped: the event waits for it. */
	its_mapti(6, 0, LPI(10), 9);
	its_int(6, 0);
	expect_none(10, 0);
	its_mapc(9, 0, true);
	its_int(6, 0);
	expect_at(0, 10, 1);
	/* MAPC V=0 takes it away, for good: events do not come back with it. */
	its_mapc(9, 0, false);
	its_int(6, 0);
	expect_none(10, 1);
	its_mapc(9, 0, true);
	its_int(6, 0);
	expect_none(10, 1);
	/* MAPD V=0 forgets the events, MAPD V=1 of a mapped device does. */
	its_mapti(7, 0, LPI(11), 0);
	its_int(7, 0);
	expect_at(0, 11, 1);
	its_mapd(7, its_memory.itt[7], ITT_BITS, true);
	its_int(7, 0);
	expect_none(11, 1);
	its_mapti(7, 0, LPI(11), 0);
	its_int(7, 0);
	expect_at(0, 11, 2);
	its_mapd(7, NULL, 1, false);
	its_int(7, 0);
	its_mapti(7, 0, LPI(11), 0); /* no such device */
	its_int(7, 0);
	expect_none(11, 2);
	its_sync(0);
}

static void guest_commands(u64 arg)
{
	commands(ITS_DIRECT);
}

TEST(commands)
{
	vcpu_done(&its_vm(guest_commands, 1)->vcpus[0]);
}

static void guest_commands_indirect(u64 arg)
{
	commands(ITS_INDIRECT);
	/* What the first level does not lead to is no device. */
	its_mapd(8192, its_memory.itt[8], ITT_BITS, true);
	its_mapti(8192, 0, LPI(20), 0);
	its_int(8192, 0);
	expect_none(20, 0);
	its_mapd(8191, its_memory.itt[8], ITT_BITS, true);
	its_mapti(8191, 0, LPI(20), 0);
	its_int(8191, 0);
	expect_at(0, 20, 1);
}

TEST(commands_with_two_levels)
{
	vcpu_done(&its_vm(guest_commands_indirect, 1)->vcpus[0]);
}

/* Mistakes do nothing, and the next command is done. */
static void guest_mistakes(u64 arg)
{
	begin(1, 1, ITS_DIRECT);
	its_mapd(8192, its_memory.itt[0], ITT_BITS, true); /* beyond the table */
	its_mapti(8192, 0, LPI(0), 0);
	its_mapd(0xffffffff, its_memory.itt[0], ITT_BITS, true);
	its_mapti(0xffffffff, 0, LPI(0), 0);
	its_mapd(1, its_memory.itt[1], 17, true); /* more bits than there are: device 1 stays as it was */
	its_mapti(1, 511, LPI(1), 0);
	its_int(1, 511);
	expect_at(0, 1, 1);
	its_mapti(1, 512, LPI(0), 0); /* beyond the ITT */
	its_int(1, 512);
	its_mapti(1, 1, 8191, 0); /* not an LPI */
	its_int(1, 1);
	lpi_configure(1 << LPI_BITS, 0xa0, true);
	its_mapti(1, 2, 1 << LPI_BITS, 0); /* beyond GICR_PROPBASER.IDbits */
	its_int(1, 2);
	its_mapti(1, 3, SPI(1), 0);
	its_int(1, 3);
	its_mapti(1, 4, LPI(0), 8192); /* beyond the table of collections */
	its_int(1, 4);
	its_mapc(1, 77, true); /* no such redistributor */
	its_mapti(1, 5, LPI(0), 1);
	its_int(1, 5);
	its_movi(1, 511, 1); /* to no collection */
	its_movi(1, 300, 0); /* no event */
	its_int(1, 511);
	expect_at(0, 1, 2);
	its_movall(0, 77);
	its_movall(77, 0);
	its_clear(1, 300);
	its_clear(100, 0);
	its_inv(1, 300);
	its_invall(300);
	its_discard(1, 300);
	its_discard(100, 1);
	its_mapd(100, NULL, 1, false); /* was not mapped */
	its_mapc(200, 0, false);
	for (u32 i = 0; i < 256; i++)
		if (i < 1 || i > 0xf)
			its_command(i, i, i, i);
	its_command(0x02, ~0UL, ~0UL, ~0UL);
	its_command(0x06, ~0UL, ~0UL, ~0UL);
	its_command(~0UL, ~0UL, ~0UL, ~0UL);
	/* An ITT where there is no memory. */
	its_mapd(2, (void *)0x0b000000, ITT_BITS, true);
	its_mapti(2, 0, LPI(0), 0);
	its_int(2, 0);
	its_discard(2, 0);
	expect_none(0, 0);
	its_int(1, 511);
	expect_at(0, 1, 3);
}

TEST(mistakes)
{
	vcpu_done(&its_vm(guest_mistakes, 1)->vcpus[0]);
}

/* The configuration table: what is in memory counts when the GIC has been told. */
static void guest_configuration(u64 arg)
{
	u64 redist = gic_redist();

	begin(1, 1, ITS_DIRECT);
	lpi_configure(LPI(0), 0xa0, false);
	its_mapti(0, 0, LPI(0), 0);
	its_mapti(0, 1, LPI(1), 0);
	its_int(0, 0);
	expect_none(0, 0); /* disabled, and pending */
	lpi_configure(LPI(0), 0xa0, true);
	its_inv(0, 0);
	expect_at(0, 0, 1);
	/* Disabled again, and CLEAR: gone. */
	lpi_configure(LPI(0), 0xa0, false);
	its_inv(0, 0);
	its_int(0, 0);
	expect_none(0, 1);
	its_clear(0, 0);
	lpi_configure(LPI(0), 0xa0, true);
	its_inv(0, 0);
	expect_none(0, 1);
	/* INVALL, for a whole collection. */
	lpi_configure(LPI(0), 0xa0, false);
	lpi_configure(LPI(1), 0xa0, false);
	its_invall(0);
	its_int(0, 0);
	its_int(0, 1);
	expect_none(0, 1);
	expect_none(1, 0);
	lpi_configure(LPI(0), 0xa0, true);
	lpi_configure(LPI(1), 0xa0, true);
	its_invall(0);
	expect_at(0, 0, 2);
	expect_at(0, 1, 1);
	/* By the redistributor's registers, where it has them. */
	GUEST_CHECK(mmio_read32(redist + GICR_CTLR) & 1 << 2);
	lpi_configure(LPI(0), 0xa0, false);
	mmio_write64(redist + GICR_INVLPIR, LPI(0));
	while (mmio_read32(redist + GICR_SYNCR) & 1)
		;
	its_int(0, 0);
	expect_none(0, 2);
	lpi_configure(LPI(0), 0xa0, true);
	mmio_write64(redist + GICR_INVLPIR, LPI(77)); /* another one, which there is not */
	mmio_write64(redist + GICR_INVLPIR, SPI(0));
	expect_none(0, 2);
	mmio_write64(redist + GICR_INVLPIR, LPI(0));
	while (mmio_read32(redist + GICR_SYNCR) & 1)
		;
	expect_at(0, 0, 3);
	lpi_configure(LPI(0), 0xa0, false);
	lpi_configure(LPI(1), 0xa0, false);
	mmio_write64(redist + GICR_INVALLR, 0);
	while (mmio_read32(redist + GICR_SYNCR) & 1)
		;
	its_int(0, 0);
	its_int(0, 1);
	expect_none(0, 3);
	expect_none(1, 1);
	lpi_configure(LPI(0), 0xa0, true);
	lpi_configure(LPI(1), 0xa0, true);
	mmio_write64(redist + GICR_INVALLR, 0);
	while (mmio_read32(redist + GICR_SYNCR) & 1)
		;
	expect_at(0, 0, 4);
	expect_at(0, 1, 2);
	/* A new mapping reads it as it is. */
	lpi_configure(LPI(5), 0xa0, false);
	its_mapti(0, 5, LPI(5), 0);
	its_int(0, 5);
	expect_none(5, 0);
	its_clear(0, 5);
	/* The priority is part of it. */
	write_sysreg(0x80, ICC_PMR_EL1);
	isb();
	its_int(0, 0);
	expect_none(0, 4);
	lpi_configure(LPI(0), 0x40, true);
	its_inv(0, 0);
	expect_at(0, 0, 5);
	write_sysreg(0xff, ICC_PMR_EL1);
	isb();
}

TEST(configuration)
{
	vcpu_done(&its_vm(guest_configuration, 1)->vcpus[0]);
}

/* The queue goes round: many more commands than it has room for. */
static void guest_queue(u64 arg)
{
	begin(1, 1, ITS_DIRECT);
	its_mapti(0, 0, LPI(0), 0);
	for (u64 i = 1; i <= 300; i++) {
		its_int(0, 0);
		while (load_acquire(&count[0][0]) < i)
			;
	}
	/* Many at once: written, then told of. */
	for (u32 round = 0; round < 3; round++) {
		u64 at = mmio_read64(GUEST_ITS + GITS_CWRITER), to = (at + 100 * 32) % 4096;

		for (u32 i = 0; i < 100; i++) {
			u64 *command = its_memory.queue + (at + i * 32) % 4096 / 8;

			command[0] = i % 2 ? 0x0f : 0x0a; /* map, unmap, ... */
			command[0] |= 1UL << 32;
			command[1] = (u64)LPI(1) << 32 | 1;
			command[2] = 0;
		}
		dsb(sy);
		mmio_write64(GUEST_ITS + GITS_CWRITER, to);
		while (mmio_read64(GUEST_ITS + GITS_CREADR) != to)
			;
		GUEST_CHECK(mmio_read32(GUEST_ITS + GITS_CTLR) & GITS_CTLR_QUIESCENT);
		/* Where its_command() goes on. */
		while (mmio_read64(GUEST_ITS + GITS_CWRITER) != at) {
			u64 next = (mmio_read64(GUEST_ITS + GITS_CWRITER) + 32) % 4096;

			its_memory.queue[(next + 4096 - 32) % 4096 / 8] = 0x05;
			dsb(sy);
			mmio_write64(GUEST_ITS + GITS_CWRITER, next);
		}
	}
	its_mapti(1, 1, LPI(1), 0);
	its_int(1, 1);
	expect_at(0, 1, 1);
	/* While it is disabled commands wait, and messages are none. */
	mmio_write32(GUEST_ITS + GITS_CTLR, 0);
	GUEST_SYNC(1);
	mmio_write32(GUEST_ITS + GITS_CTLR, GITS_CTLR_ENABLED);
	GUEST_SYNC(2);
	expect_at(0, 1, 2);
}

TEST_SECONDS(queue, 60)
{
	struct vm *vm = its_vm(guest_queue, 1);

	vcpu_sync(&vm->vcpus[0], 1);
	EXPECT_ERRNO(msi(vm, 1, 1), EBUSY);
	vcpu_sync(&vm->vcpus[0], 2);
	EXPECT_EQ(msi(vm, 1, 1), 1);
	vcpu_done(&vm->vcpus[0]);
}

/* ---- Messages from userspace ---- */

static void guest_messages(u64 arg)
{
	begin(1, 1, ITS_DIRECT);
	for (u32 i = 0; i < 8; i++)
		its_mapti(2, i, LPI(i), 0);
	its_mapti(2, 8, LPI(8), 5); /* a collection that is not mapped */
	for (u64 i = 1;; i++)
		GUEST_SYNC(i);
}

static void signalled(struct vm *vm, u32 n, u64 times)
{
	static u64 syncs = 2;

	for (u64 end = now_us() + 5000000; VM_GLOBAL(vm, count[0][n]) < times; CHECK(now_us() < end))
		vcpu_sync(&vm->vcpus[0], syncs++);
	CHECK_EQ(VM_GLOBAL(vm, count[0][n]), times);
}

TEST(signal_msi)
{
	struct vm *vm = its_vm(guest_messages, 1);
	struct kvm_msi m = { .address_lo = GUEST_ITS + GITS_TRANSLATER, .data = 3, .devid = 2 };

	EXPECT_ERRNO(msi(vm, 2, 3), EBUSY); /* the ITS is not enabled yet */
	vcpu_sync(&vm->vcpus[0], 1);
	/* The device has to be told. */
	EXPECT_ERRNO(ioctl(vm->fd, KVM_SIGNAL_MSI, &m), EINVAL);
	m.flags = KVM_MSI_VALID_DEVID | 2;
	EXPECT_ERRNO(ioctl(vm->fd, KVM_SIGNAL_MSI, &m), EINVAL);
	m.flags = KVM_MSI_VALID_DEVID;
	EXPECT_ERRNO(ioctl(vm->fd, KVM_SIGNAL_MSI, BAD_POINTER), EFAULT);
	/* Elsewhere nobody takes it. */
	m.address_lo = 0x0a000040;
	EXPECT_ERRNO(ioctl(vm->fd, KVM_SIGNAL_MSI, &m), EINVAL);
	m.address_lo = GUEST_ITS + GITS_TRANSLATER;
	m.address_hi = 1;
	EXPECT_ERRNO(ioctl(vm->fd, KVM_SIGNAL_MSI, &m), EINVAL);
	m.address_hi = 0;
	/* 1: delivered, or pending already. 0: nobody wants it. */
	EXPECT_EQ(ioctl(vm->fd, KVM_SIGNAL_MSI, &m), 1);
	EXPECT_EQ(ioctl(vm->fd, KVM_SIGNAL_MSI, &m), 1);
	signalled(vm, 3, 1);
	EXPECT_EQ(msi(vm, 2, 3), 1);
	signalled(vm, 3, 2);
	EXPECT_EQ(msi(vm, 2, 99), 0); /* no such event */
	EXPECT_EQ(msi(vm, 2, 0x10003), 0);
	EXPECT_EQ(msi(vm, 99, 3), 0); /* nor device */
	EXPECT_EQ(msi(vm, 0x10002, 3), 0);
	EXPECT_EQ(msi(vm, 2, 8), 0); /* its collection is nowhere */
	for (u32 i = 0; i < 8; i++)
		EXPECT_EQ(VM_GLOBAL(vm, count[0][i]), i == 3 ? 2 : 0);
}

/* Two ITSes are two: the same device and event at each. */
TEST(two)
{
	struct vm *vm = its_vm(guest_messages, 1);
	struct kvm_msi m = { .address_lo = 0x0a000000 + GITS_TRANSLATER, .data = 3, .devid = 2, .flags = KVM_MSI_VALID_DEVID };

	its_create(vm, 0x0a000000);
	vcpu_sync(&vm->vcpus[0], 1);
	EXPECT_ERRNO(ioctl(vm->fd, KVM_SIGNAL_MSI, &m), EBUSY); /* nobody has enabled that one */
	EXPECT_EQ(msi(vm, 2, 3), 1);
	signalled(vm, 3, 1);
}

static void set_route(struct vm *vm, u32 gsi, u32 device, u32 event, u32 flags)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry entry;
	} r = { .head.nr = 1, .entry = { .gsi = gsi, .type = KVM_IRQ_ROUTING_MSI, .flags = flags } };

	r.entry.u.msi.address_lo = GUEST_ITS + GITS_TRANSLATER;
	r.entry.u.msi.data = event;
	r.entry.u.msi.devid = device;
	CHECK_OK(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r));
}

TEST(irqfd)
{
	struct vm *vm = its_vm(guest_messages, 1);
	int fd = CHECK_OK(eventfd(0, EFD_NONBLOCK));
	struct kvm_irqfd irqfd = { .fd = fd, .gsi = 200 };
	u64 one = 1;

	CHECK_EQ(ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_MSI_DEVID), 1);
	set_route(vm, 200, 2, 4, KVM_MSI_VALID_DEVID);
	CHECK_OK(ioctl(vm->fd, KVM_IRQFD, &irqfd));
	CHECK(write(fd, &one, 8) == 8); /* the ITS is not there yet: lost */
	vcpu_sync(&vm->vcpus[0], 1);
	for (u64 i = 1; i <= 10; i++) {
		CHECK(write(fd, &one, 8) == 8);
		signalled(vm, 4, i);
	}
	/* The route changes under it, as when a guest moves an interrupt. */
	for (u64 i = 1; i <= 10; i++) {
		set_route(vm, 200, 2, 5 + i % 2, KVM_MSI_VALID_DEVID);
		CHECK(write(fd, &one, 8) == 8);
		signalled(vm, 5 + i % 2, (i + 1) / 2);
	}
	/* To nowhere: that is not an error. */
	set_route(vm, 200, 2, 99, KVM_MSI_VALID_DEVID);
	CHECK(write(fd, &one, 8) == 8);
	set_route(vm, 200, 2, 7, KVM_MSI_VALID_DEVID);
	CHECK(write(fd, &one, 8) == 8);
	signalled(vm, 7, 1);
	irqfd.flags = KVM_IRQFD_FLAG_DEASSIGN;
	CHECK_OK(ioctl(vm->fd, KVM_IRQFD, &irqfd));
	CHECK_EQ(VM_GLOBAL(vm, count[0][4]), 10);
}

/* ---- Several vCPUs ---- */

/* Others than the first: waits, asleep, until it is over. */
static void other_cpu(void)
{
	while (!load_acquire(&ready))
		;
	gic_init_cpu();
	irq_enable();
	atomic_inc(&ready);
	while (!load_acquire(&over))
		wfi();
	irq_disable();
}

static void all_ready(u64 cpus)
{
	atomic_inc(&ready);
	while (load_acquire(&ready) < cpus)
		;
}

/* Ends the others: by an LPI each, so that they wake up. */
static void end_others(u64 cpus)
{
	store_release(&over, 1);
	for (u64 i = 1; i < cpus; i++) {
		its_mapti(15, i, LPI(120 + i), i);
		its_int(15, i);
	}
}

static void guest_moves(u64 cpu)
{
	if (cpu) {
		other_cpu();
		return;
	}
	begin(4, 1, ITS_DIRECT);
	all_ready(4);
	/* Each collection at its vCPU. */
	for (u32 i = 0; i < 4; i++) {
		its_mapti(0, i, LPI(i), i);
		its_int(0, i);
		expect_at(i, i, 1);
		GUEST_CHECK_EQ(counted(i), 1);
	}
	/* MOVI of one event. */
	for (u32 i = 0; i < 4; i++) {
		its_movi(0, 0, i);
		its_int(0, 0);
		expect_at(i, 0, i ? 1 : 2);
		GUEST_CHECK_EQ(counted(0), 2 + i);
	}
	/* MAPC of its collection (3) to another vCPU: all of it moves. */
	its_mapc(3, 1, true);
	its_int(0, 0);
	expect_at(1, 0, 2);
	its_int(0, 3);
	expect_at(1, 3, 1);
	its_mapc(3, 3, true);
	its_int(0, 3);
	expect_at(3, 3, 2);
	/* MOVALL: from that redistributor to that one, whatever the collection; collections stay where they are. */
	its_movall(3, 2);
	its_int(0, 3);
	expect_at(2, 3, 1);
	its_int(0, 0);
	expect_at(2, 0, 2);
	its_mapti(1, 0, LPI(20), 3);
	its_int(1, 0);
	expect_at(3, 20, 1);
	its_movall(2, 3);
	/* What is pending moves along: disabled, pending, moved, enabled. */
	lpi_configure(LPI(21), 0xa0, false);
	its_mapti(1, 1, LPI(21), 1);
	its_int(1, 1);
	its_movi(1, 1, 2);
	its_movi(1, 1, 3);
	lpi_configure(LPI(21), 0xa0, true);
	its_inv(1, 1);
	expect_at(3, 21, 1);
	GUEST_CHECK_EQ(counted(21), 1);
	end_others(4);
}

TEST(several_cpus)
{
	vm_run_all(its_vm(guest_moves, 4));
}

/*
 * Messages from the host to vCPUs that sleep and are busy: none is lost while its LPI is not pending already. Two vCPUs: four
 * that do nothing but exit get nowhere where the emulated server's CPUs have one real CPU between them.
 */
#define RECEIVERS 2

static void guest_receivers(u64 cpu)
{
	if (cpu == 0) {
		begin(RECEIVERS, 1, ITS_DIRECT);
		for (u32 i = 0; i < 32; i++)
			its_mapti(i / 8, i, LPI(i), i % RECEIVERS);
		store_release(&ready, 1);
	} else {
		while (!load_acquire(&ready))
			;
		gic_init_cpu();
		irq_enable();
	}
	GUEST_SYNC(1);
	while (!READ_ONCE(over)) {
		wfi();
		for (volatile int i = 0; i < 50; i++)
			;
	}
}

static void *sender(void *arg)
{
	struct vm *vm = arg;

	for (u64 round = 1; round <= 40; round++) {
		for (u32 i = 0; i < 32; i++)
			if (msi(vm, i / 8, i) != 1)
				FAIL("message %u, round %lu: %s", i, round, strerrorname_np(errno));
		for (u32 i = 0; i < 32; i++)
			for (u64 end = now_us() + 8000000; VM_GLOBAL(vm, count[i % RECEIVERS][i]) < round; sleep_us(20))
				if (now_us() > end)
					FAIL("LPI %u is lost in round %lu: %lu", i, round, VM_GLOBAL(vm, count[i % RECEIVERS][i]));
	}
	VM_GLOBAL(vm, over) = 1;
	for (u32 i = 0; i < RECEIVERS; i++)
		msi(vm, 0, i);
	return NULL;
}

static void *until_sync(void *arg)
{
	vcpu_sync(arg, 1);
	return NULL;
}

TEST_SECONDS(from_the_host_to_all, 60)
{
	struct vm *vm = its_vm(guest_receivers, RECEIVERS);
	pthread_t threads[RECEIVERS], thread;

	for (u32 i = 0; i < RECEIVERS; i++)
		CHECK(pthread_create(&threads[i], NULL, until_sync, &vm->vcpus[i]) == 0);
	for (u32 i = 0; i < RECEIVERS; i++)
		pthread_join(threads[i], NULL);
	CHECK(pthread_create(&thread, NULL, sender, vm) == 0);
	vm_run_all(vm);
	pthread_join(thread, NULL);
	for (u32 i = 0; i < 32; i++)
		for (u32 cpu = 0; cpu < RECEIVERS; cpu++)
			if (cpu != i % RECEIVERS)
				CHECK_EQ(VM_GLOBAL(vm, count[cpu][i]), 0);
}

/* ---- More of them than list registers ---- */

static void guest_many(u64 arg)
{
	begin(1, 1, ITS_DIRECT);
	irq_disable();
	for (u32 i = 0; i < 96; i++) {
		/* A permutation of 24 priorities. */
		lpi_configure(LPI(i), (i * 7 % 24) * 8, true);
		its_mapti(i / 32, i, LPI(i), 0);
	}
	for (u32 i = 0; i < 96; i++)
		its_int((95 - i) / 32, 95 - i);
	settle();
	GUEST_CHECK(read_sysreg(ICC_HPPIR1_EL1) >= LPI(0));
	irq_enable();
	while (READ_ONCE(order_n) < 96)
		;
	settle();
	GUEST_CHECK_EQ(order_n, 96);
	for (u32 i = 0; i < 96; i++) {
		GUEST_CHECK_EQ(count[0][i], 1);
		if (i) {
			u32 before = (order[i - 1] - LPI(0)) * 7 % 24, now = (order[i] - LPI(0)) * 7 % 24;

			if (before > now)
				GUEST_FAIL("out of order: first, second", order[i - 1], order[i]);
		}
	}
	/* All at once again, and half of them taken back while they wait. */
	irq_disable();
	for (u32 i = 0; i < 96; i++)
		its_int(i / 32, i);
	for (u32 i = 0; i < 96; i += 2)
		its_clear(i / 32, i);
	irq_enable();
	for (u32 i = 1; i < 96; i += 2)
		while (load_acquire(&count[0][i]) < 2)
			;
	settle();
	/* KVM's CLEAR does not get at what is in a list register already. */
	for (u32 i = 0, kept = 0; i < 96; i += 2) {
		kept += count[0][i] - 1;
		GUEST_CHECK(kept <= 16);
	}
	/* And half of them unmapped. */
	irq_disable();
	for (u32 i = 0; i < 96; i++)
		its_int(i / 32, i);
	for (u32 i = 0; i < 96; i += 2)
		its_discard(i / 32, i);
	irq_enable();
	for (u32 i = 1; i < 96; i += 2)
		while (load_acquire(&count[0][i]) < 3)
			;
	settle();
	for (u32 i = 1; i < 96; i += 2)
		GUEST_CHECK_EQ(count[0][i], 3);
}

TEST_SECONDS(more_than_list_registers, 60)
{
	vcpu_done(&its_vm(guest_many, 1)->vcpus[0]);
}

/* ---- LPIs switched off and on, and the pending table ---- */

static u8 *pending_byte(u64 cpu, u32 lpi)
{
	return &its_memory.pending[cpu][lpi / 8];
}

static void guest_off_and_on(u64 arg)
{
	begin(1, 1, ITS_DIRECT);
	for (u32 i = 0; i < 8; i++)
		its_mapti(0, i, LPI(i), 0);
	its_int(0, 0);
	expect_at(0, 0, 1);
	lpis_off(0);
	GUEST_CHECK_EQ(mmio_read32(gic_redist() + GICR_CTLR) & 1, 0);
	GUEST_SYNC(1); /* the host's message is refused */
	its_int(0, 0);
	expect_none(0, 1);
	/* Switched on, what the table says is pending. */
	*pending_byte(0, LPI(2)) |= 1 << LPI(2) % 8;
	*pending_byte(0, LPI(5)) |= 1 << LPI(5) % 8;
	dsb(sy);
	lpis_on(0);
	expect_at(0, 2, 1);
	expect_at(0, 5, 1);
	for (u32 i = 0; i < 8; i++)
		GUEST_CHECK_EQ(count[0][i], i == 0 || i == 2 || i == 5);
	GUEST_SYNC(2);
	its_int(0, 0);
	expect_at(0, 0, 3);
	/* Pending and not taken when they are switched off: the interface forgets it. */
	irq_disable();
	its_int(0, 6);
	lpis_off(0);
	memset(its_memory.pending[0], 0, ITS_PAGE);
	dsb(sy);
	irq_enable();
	expect_none(6, 0);
	lpis_on(0);
	expect_none(6, 0);
	its_int(0, 6);
	expect_at(0, 6, 1);
	/* Pending in the table for an LPI that is mapped only now. */
	*pending_byte(0, LPI(30)) |= 1 << LPI(30) % 8;
	dsb(sy);
	its_mapti(1, 0, LPI(30), 0);
	expect_at(0, 30, 1);
	/* All zero, the guest says: the table is not looked at. */
	lpis_off(0);
	*pending_byte(0, LPI(3)) |= 1 << LPI(3) % 8;
	dsb(sy);
	mmio_write64(gic_redist() + GICR_PENDBASER, (u64)its_memory.pending[0] | GICR_PENDBASER_PTZ);
	mmio_write32(gic_redist() + GICR_CTLR, GICR_CTLR_ENABLE_LPIS);
	expect_none(3, 0);
	its_int(0, 3);
	expect_at(0, 3, 1);
	/* While they are on, the tables' addresses cannot be changed. */
	mmio_write64(gic_redist() + GICR_PROPBASER, 0);
	mmio_write64(gic_redist() + GICR_PENDBASER, 0);
	GUEST_CHECK_EQ(mmio_read64(gic_redist() + GICR_PROPBASER) & 0xffffffff001f, (u64)its_memory.config | (LPI_BITS - 1));
	GUEST_CHECK_EQ(mmio_read64(gic_redist() + GICR_PENDBASER) & 0xffffffff0000, (u64)its_memory.pending[0]);
}

TEST(off_and_on)
{
	struct vm *vm = its_vm(guest_off_and_on, 1);

	vcpu_sync(&vm->vcpus[0], 1);
	EXPECT_ERRNO(msi(vm, 0, 0), EBUSY);
	vcpu_sync(&vm->vcpus[0], 2);
	EXPECT_EQ(msi(vm, 0, 0), 1);
	vcpu_done(&vm->vcpus[0]);
}
