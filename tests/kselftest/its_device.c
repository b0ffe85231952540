// SPDX-License-Identifier: GPL-2.0
/* The ITS as a device of KVM's: its attributes, and its registers as userspace saves and restores them. */
#include <unistd.h>

#include "abi.h"
#include "msi.h"

#define ADDR KVM_DEV_ARM_VGIC_GRP_ADDR
#define CONTROL KVM_DEV_ARM_VGIC_GRP_CTRL
#define REGS KVM_DEV_ARM_VGIC_GRP_ITS_REGS
#define BASE KVM_VGIC_ITS_ADDR_TYPE
#define INIT KVM_DEV_ARM_VGIC_CTRL_INIT
#define RESET KVM_DEV_ARM_ITS_CTRL_RESET
#define SAVE KVM_DEV_ARM_ITS_SAVE_TABLES
#define RESTORE KVM_DEV_ARM_ITS_RESTORE_TABLES

static void guest_nothing(u64 arg)
{
}

static u64 its_reg(int its, u64 offset)
{
	u64 value = 0x5a5a5a5a5a5a5a5a;

	CHECK_OK(attr_get(its, REGS, offset, &value));
	return value;
}

TEST(creation)
{
	struct vm *vm = vm_create(.main = guest_nothing);
	struct kvm_create_device device = { .type = KVM_DEV_TYPE_ARM_VGIC_ITS, .flags = KVM_CREATE_DEVICE_TEST };
	int before = open_fds(), its[3];

	EXPECT_OK(ioctl(vm->fd, KVM_CREATE_DEVICE, &device));
	EXPECT_EQ(open_fds(), before); /* only a question */
	/* Before the interrupt controller and after it; there may be many. */
	its[0] = its_create(vm, 0);
	gic_create(vm);
	its[1] = its_create(vm, 0);
	gic_init(vm);
	its[2] = its_create(vm, 0);
	for (u64 i = 0; i < 3; i++)
		EXPECT_OK(attr_set(its[i], ADDR, BASE, &(u64){ 0x0a000000 + i * 0x20000 }));
	/* Closed, they are there still. */
	close(its[1]);
	vcpu_done(&vm->vcpus[0]);
}

TEST(attributes)
{
	struct vm *vm = vm_create(.main = guest_nothing, .gic = true);
	int its = its_create(vm, 0);

	EXPECT_OK(attr_has(its, ADDR, BASE));
	EXPECT_ERRNO(attr_has(its, ADDR, KVM_VGIC_V3_ADDR_TYPE_DIST), ENXIO);
	EXPECT_OK(attr_has(its, CONTROL, INIT));
	EXPECT_OK(attr_has(its, CONTROL, RESET));
	EXPECT_OK(attr_has(its, CONTROL, SAVE));
	EXPECT_OK(attr_has(its, CONTROL, RESTORE));
	EXPECT_ERRNO(attr_has(its, CONTROL, 99), ENXIO);
	EXPECT_ERRNO(attr_has(its, 99, 0), ENXIO);
	EXPECT_ERRNO(attr_has(its, KVM_DEV_ARM_VGIC_GRP_DIST_REGS, 0), ENXIO);
	for (u64 offset = 0; offset < 0x200; offset += 4) {
		bool wide = (offset >= 0x08 && offset < 0x10) || (offset >= 0x80 && offset < 0x98) || (offset >= 0x100 && offset < 0x140);

		if (offset >= GITS_TYPER && offset & 7)
			EXPECT_ERRNO(attr_has(its, REGS, offset), EINVAL); /* half of a register */
		else if (offset < GITS_TYPER || wide)
			EXPECT_OK(attr_has(its, REGS, offset));
		else
			EXPECT_ERRNO(attr_has(its, REGS, offset), ENXIO);
		EXPECT_ERRNO(attr_has(its, REGS, offset + 2), EINVAL);
	}
	for (u64 offset = GITS_PIDR4; offset < 0x10000; offset += 4)
		EXPECT_OK(attr_has(its, REGS, offset));
	EXPECT_ERRNO(attr_has(its, REGS, GITS_TRANSLATER & ~7UL), ENXIO);
	EXPECT_ERRNO(attr_set(its, CONTROL, 99, NULL), ENXIO);
	EXPECT_ERRNO(attr_set(its, 99, 0, NULL), ENXIO);
	EXPECT_ERRNO(attr_get(its, CONTROL, INIT, NULL), ENXIO);
	EXPECT_OK(attr_set(its, CONTROL, INIT, NULL));
	EXPECT_OK(attr_set(its, CONTROL, INIT, NULL));
}

TEST(address)
{
	struct vm *vm = vm_create(.main = guest_nothing, .gic = true);
	int its = its_create(vm, 0);
	u64 a = 0;

	EXPECT_OK(attr_get(its, ADDR, BASE, &a));
	EXPECT_EQ(a, ~0UL); /* not set */
	EXPECT_ERRNO(attr_get(its, ADDR, BASE, BAD_POINTER), EFAULT);
	EXPECT_ERRNO(attr_set(its, ADDR, BASE, BAD_POINTER), EFAULT);
	EXPECT_ERRNO(attr_set(its, ADDR, KVM_VGIC_V3_ADDR_TYPE_DIST, &(u64){ GUEST_ITS }), ENODEV);
	EXPECT_ERRNO(attr_get(its, ADDR, KVM_VGIC_V3_ADDR_TYPE_DIST, &a), ENODEV);
	EXPECT_ERRNO(attr_set(its, ADDR, BASE, &(u64){ GUEST_ITS + 0x1000 }), EINVAL);
	EXPECT_ERRNO(attr_set(its, ADDR, BASE, &(u64){ 1UL << 40 }), E2BIG);
	EXPECT_ERRNO(attr_set(its, ADDR, BASE, &(u64){ (1UL << 40) - 0x10000 }), E2BIG); /* the second page is outside */
	EXPECT_ERRNO(attr_set(its, ADDR, BASE, &(u64){ -0x10000UL }), EINVAL); /* wraps */
	EXPECT_ERRNO(attr_get(its, REGS, GITS_CTLR, &a), ENXIO); /* nowhere yet */
	EXPECT_ERRNO(attr_set(its, REGS, GITS_CBASER, &(u64){ 0 }), ENXIO);
	EXPECT_OK(attr_set(its, ADDR, BASE, &(u64){ GUEST_ITS }));
	EXPECT_OK(attr_get(its, ADDR, BASE, &a));
	EXPECT_EQ(a, GUEST_ITS);
	EXPECT_ERRNO(attr_set(its, ADDR, BASE, &(u64){ GUEST_ITS }), EEXIST);
	EXPECT_ERRNO(attr_set(its, ADDR, BASE, &(u64){ 0x0a000000 }), EEXIST);
}

TEST(registers)
{
	struct vm *vm = vm_create(.main = guest_nothing, .gic = true);
	int its = its_create(vm, GUEST_ITS);
	u64 typer = its_reg(its, GITS_TYPER), v;

	EXPECT_EQ(its_reg(its, GITS_CTLR), GITS_CTLR_QUIESCENT);
	EXPECT_EQ(typer & 1, 1); /* physical LPIs */
	EXPECT_EQ(typer >> 4 & 0xf, 7); /* eight bytes of an ITT for an event */
	EXPECT_EQ(typer >> 8 & 0x1f, 15); /* 16 bits of events and of devices */
	EXPECT_EQ(typer >> 13 & 0x1f, 15);
	EXPECT_EQ(typer >> 19 & 1, 0); /* redistributors by number */
	EXPECT_EQ(its_reg(its, GITS_IIDR) >> 12 & 0xf, 0); /* the revision of the tables' layout */
	EXPECT_EQ(its_reg(its, GITS_PIDR2) >> 4, 3);
	EXPECT_EQ(its_reg(its, GITS_CBASER), 0);
	EXPECT_EQ(its_reg(its, GITS_BASER(0)) >> 56 & 0x87, 1); /* devices; not valid */
	EXPECT_EQ(its_reg(its, GITS_BASER(1)) >> 56 & 0x87, 4); /* collections */
	for (u32 i = 2; i < 8; i++)
		EXPECT_EQ(its_reg(its, GITS_BASER(i)), 0);

	EXPECT_ERRNO(attr_get(its, REGS, GITS_CTLR, BAD_POINTER), EFAULT);
	EXPECT_ERRNO(attr_set(its, REGS, GITS_CBASER, BAD_POINTER), EFAULT);
	EXPECT_ERRNO(attr_get(its, REGS, GITS_CBASER + 4, &v), EINVAL);
	EXPECT_ERRNO(attr_get(its, REGS, 0x40, &v), ENXIO);
	EXPECT_ERRNO(attr_set(its, REGS, 0x40, &(u64){ 0 }), ENXIO);

	/* Read-only ones ignore it, the revision is checked. */
	EXPECT_OK(attr_set(its, REGS, GITS_TYPER, &(u64){ ~typer }));
	EXPECT_EQ(its_reg(its, GITS_TYPER), typer);
	v = its_reg(its, GITS_IIDR);
	EXPECT_OK(attr_set(its, REGS, GITS_IIDR, &v));
	EXPECT_ERRNO(attr_set(its, REGS, GITS_IIDR, &(u64){ v | 1 << 12 }), EINVAL);

	/* The queue: its address is 64 KiB aligned, setting it empties it, and the read pointer is within it. */
	EXPECT_OK(attr_set(its, REGS, GITS_CBASER, &(u64){ GITS_VALID | 0x4012f000 | 1 }));
	EXPECT_EQ(its_reg(its, GITS_CBASER) & (GITS_VALID | 0xffffffff03ff), GITS_VALID | 0x40120000 | 1);
	EXPECT_OK(attr_set(its, REGS, GITS_CREADR, &(u64){ 0x1fe0 }));
	EXPECT_EQ(its_reg(its, GITS_CREADR), 0x1fe0);
	EXPECT_ERRNO(attr_set(its, REGS, GITS_CREADR, &(u64){ 0x2000 }), EINVAL);
	EXPECT_OK(attr_set(its, REGS, GITS_CWRITER, &(u64){ 0x40 }));
	EXPECT_EQ(its_reg(its, GITS_CWRITER), 0x40);
	EXPECT_OK(attr_set(its, REGS, GITS_CWRITER, &(u64){ 0x2000 })); /* ignored: beyond the queue */
	EXPECT_EQ(its_reg(its, GITS_CWRITER), 0x40);
	EXPECT_EQ(its_reg(its, GITS_CTLR), 0); /* not quiescent: there is something in the queue */
	EXPECT_OK(attr_set(its, REGS, GITS_CBASER, &(u64){ GITS_VALID | 0x40120000 }));
	EXPECT_EQ(its_reg(its, GITS_CREADR), 0);
	EXPECT_EQ(its_reg(its, GITS_CWRITER), 0);

	/* Tables: pages of 64 KiB always, the type is what it is, and collections are never in two levels. */
	for (u32 i = 0; i < 2; i++) {
		EXPECT_OK(attr_set(its, REGS, GITS_BASER(i), &(u64){ GITS_VALID | GITS_BASER_INDIRECT | 7UL << 56 | 0x40130000 | 3 }));
		v = its_reg(its, GITS_BASER(i));
		EXPECT_EQ(v & (GITS_VALID | GITS_BASER_INDIRECT), i ? GITS_VALID : GITS_VALID | GITS_BASER_INDIRECT);
		EXPECT_EQ(v >> 56 & 7, i ? 4 : 1);
		EXPECT_EQ(v >> 48 & 0x1f, 7);
		EXPECT_EQ(v & 0xffffffff03ff, 0x40130000 | 2 << 8 | 3);
	}
	EXPECT_OK(attr_set(its, REGS, GITS_BASER(2), &(u64){ ~0UL }));
	EXPECT_EQ(its_reg(its, GITS_BASER(2)), 0);

	/* Enabled, none of that can be changed. */
	EXPECT_OK(attr_set(its, REGS, GITS_CTLR, &(u64){ 1 }));
	EXPECT_EQ(its_reg(its, GITS_CTLR), GITS_CTLR_ENABLED | GITS_CTLR_QUIESCENT);
	EXPECT_ERRNO(attr_set(its, REGS, GITS_CREADR, &(u64){ 0x20 }), EBUSY);
	v = its_reg(its, GITS_CBASER);
	EXPECT_OK(attr_set(its, REGS, GITS_CBASER, &(u64){ 0 }));
	EXPECT_EQ(its_reg(its, GITS_CBASER), v);
	v = its_reg(its, GITS_BASER(0));
	EXPECT_OK(attr_set(its, REGS, GITS_BASER(0), &(u64){ 0 }));
	EXPECT_EQ(its_reg(its, GITS_BASER(0)), v);
}

/* Enabled without its tables or its queue it stays disabled. */
TEST(incomplete)
{
	static const u64 values[] = { GITS_VALID | 0x40130000, GITS_VALID | 0x40140000, GITS_VALID | 0x40120000 };
	static const u64 offsets[] = { GITS_BASER(0), GITS_BASER(1), GITS_CBASER };

	for (u32 missing = 0; missing < 4; missing++) {
		struct vm *vm = vm_create(.main = guest_nothing, .gic = true);
		int its = its_create(vm, GUEST_ITS);

		for (u32 i = 0; i < 3; i++)
			if (i != missing)
				CHECK_OK(attr_set(its, REGS, offsets[i], &values[i]));
		EXPECT_OK(attr_set(its, REGS, GITS_CTLR, &(u64){ 1 }));
		EXPECT_EQ(its_reg(its, GITS_CTLR) & GITS_CTLR_ENABLED, missing == 3);
		close(its);
		vm_destroy(vm);
	}
}

static u64 stop;

static void guest_spin(u64 arg)
{
	GUEST_SYNC(1);
	while (!READ_ONCE(stop))
		;
}

/* Not while a vCPU runs. */
TEST(busy)
{
	struct vm *vm = vm_create(.main = guest_spin, .gic = true);
	int its = its_create(vm, GUEST_ITS);
	u64 v, end = now_us() + 5000000;

	vcpu_sync(&vm->vcpus[0], 1);
	vcpu_start(&vm->vcpus[0]);
	while (attr_get(its, REGS, GITS_CTLR, &v) == 0)
		CHECK(now_us() < end); /* it has not begun to run */
	EXPECT_ERRNO(attr_get(its, REGS, GITS_CTLR, &v), EBUSY);
	EXPECT_ERRNO(attr_set(its, REGS, GITS_CTLR, &(u64){ 0 }), EBUSY);
	EXPECT_ERRNO(attr_set(its, CONTROL, RESET, NULL), EBUSY);
	EXPECT_ERRNO(attr_set(its, CONTROL, SAVE, NULL), EBUSY);
	EXPECT_ERRNO(attr_set(its, CONTROL, RESTORE, NULL), EBUSY);
	EXPECT_ERRNO(attr_set(its, CONTROL, 99, NULL), EBUSY); /* that is found out first */
	EXPECT_OK(attr_set(its, CONTROL, INIT, NULL));
	EXPECT_ERRNO(attr_get(its, REGS, GITS_CBASER + 4, &v), EINVAL);
	VM_GLOBAL(vm, stop) = 1;
	vcpu_join(&vm->vcpus[0]);
	EXPECT_OK(attr_set(its, CONTROL, SAVE, NULL)); /* no tables: nothing to do */
	EXPECT_OK(attr_set(its, CONTROL, RESTORE, NULL));
}
