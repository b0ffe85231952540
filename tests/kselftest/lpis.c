// SPDX-License-Identifier: GPL-2.0
/* Messages become interrupts: LPIs from every source to their handler, on several vCPUs, and more than there are list registers. */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "abi.h"
#include "lpis.h"

static u64 ready, over;

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

/*
 * A message that arrives while LPIs are being enabled is one of those that the pending table adds to: what the table says of it
 * does not take it back. The table is not there when it is read, and the message comes before it is.
 */
static void guest_while_enabled(u64 arg)
{
	begin(1, 1, ITS_DIRECT);
	its_mapti(0, 0, LPI(0), 0);
	lpis_off(0);
	GUEST_SYNC(1);
	lpis_on(0);
	settle();
	GUEST_SYNC2(2, counted(0));
}

struct missing {
	struct vm *vm;
	int fd;
	u64 page;
};

static void *send_early(void *argument)
{
	struct missing *missing = argument;
	struct uffdio_zeropage zero = { .range = { missing->page, 0x1000 } };
	struct uffd_msg message;

	CHECK(read(missing->fd, &message, sizeof(message)) == sizeof(message));
	CHECK_EQ(msi(missing->vm, 0, 0), 1);
	CHECK_OK(ioctl(missing->fd, UFFDIO_ZEROPAGE, &zero));
	return NULL;
}

TEST(while_they_are_enabled)
{
	struct vm *vm = its_vm(guest_while_enabled, 1);
	struct missing missing = { .vm = vm, .fd = syscall(SYS_userfaultfd, O_CLOEXEC) };
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	pthread_t thread;

	if (ktap_on_kvm())
		SKIP("KVM's reading of the table takes it back");
	if (missing.fd < 0)
		SKIP("no userfaultfd");
	vcpu_sync(&vm->vcpus[0], 1);
	/* A byte for 8 INTIDs, LPIs begin at 8192. */
	missing.page = (u64)vm_host(vm, (u64)its_memory.pending[0]) + LPI(0) / 8 / 0x1000 * 0x1000;
	range.range = (struct uffdio_range){ missing.page, 0x1000 };
	CHECK_OK(ioctl(missing.fd, UFFDIO_API, &api));
	CHECK_OK(madvise((void *)missing.page, 0x1000, MADV_DONTNEED));
	CHECK_OK(ioctl(missing.fd, UFFDIO_REGISTER, &range));
	CHECK(!pthread_create(&thread, NULL, send_early, &missing));
	CHECK_EQ(vcpu_sync(&vm->vcpus[0], 2), 1);
	CHECK(!pthread_join(thread, NULL));
}
