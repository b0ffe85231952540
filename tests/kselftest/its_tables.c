// SPDX-License-Identifier: GPL-2.0
/*
 * An ITS saved into the guest's memory and restored from there, into another VM: the layout of the tables, what is pending,
 * and what is not restored because it cannot be (Documentation/virt/kvm/devices/arm-vgic-its.rst in the kernel's source).
 */
#include "abi.h"
#include "msi.h"

#define REGS KVM_DEV_ARM_VGIC_GRP_ITS_REGS
#define CONTROL KVM_DEV_ARM_VGIC_GRP_CTRL
#define RESET KVM_DEV_ARM_ITS_CTRL_RESET
#define SAVE KVM_DEV_ARM_ITS_SAVE_TABLES
#define RESTORE KVM_DEV_ARM_ITS_RESTORE_TABLES
#define NOT_MAPPED 0xffffffffUL

static struct its_memory its_memory;
static u64 count[2][32], kind, over;

static void on_lpi(struct guest_regs *regs)
{
	u32 intid = gic_ack();

	if (intid == GIC_SPURIOUS)
		return;
	gic_eoi(intid);
	if (intid < LPI(0) || intid >= LPI(32))
		GUEST_FAIL("not an LPI of this test", intid, 0);
	atomic_inc(&count[guest_self()->index][intid - LPI(0)]);
}

static void wait_count(u64 cpu, u32 n, u64 times)
{
	while (load_acquire(&count[cpu][n]) < times)
		;
	guest_delay_us(200);
	GUEST_CHECK_EQ(count[cpu][n], times);
}

/* Two vCPUs, of which the second has not run yet. */
static void map_everything(void)
{
	guest_irq_handler = on_lpi;
	gic_init_distributor();
	gic_init_cpu();
	its_start(&its_memory, 1, kind);
	for (u32 i = 0; i < 32; i++)
		lpi_configure(LPI(i), 0xa0, i != 3);
	lpis_on(0);
	lpis_on(1);
	its_mapc(0, 0, true);
	its_mapc(1, 1, true);
	its_mapc(7, 1, true);
	its_mapc(8, 0, true);
	its_mapd(8000, its_memory.itt[2], 1, true);
	its_mapd(4, its_memory.itt[3], 5, true);
	its_mapd(700, its_memory.itt[1], ITT_BITS, true);
	its_mapd(3, its_memory.itt[0], ITT_BITS, true);
	its_mapti(3, 511, LPI(2), 7);
	its_mapti(3, 0, LPI(0), 0);
	its_mapti(3, 6, LPI(6), 8);
	its_mapti(3, 5, LPI(1), 1);
	its_mapti(700, 1, LPI(3), 0);
	its_mapti(700, 2, LPI(4), 9); /* that is not mapped to a vCPU yet */
	its_mapti(8000, 1, LPI(5), 0);
	its_mapc(8, 0, false); /* what was in it is nowhere */
}

static void guest_source(u64 cpu)
{
	map_everything();
	/* Pending: one that waits for the guest's PSTATE, one for the other vCPU, one that is disabled. */
	its_int(3, 0);
	its_int(3, 5);
	its_int(700, 1);
	GUEST_SYNC(1);
	/* Saved, it goes on as if nothing had been. */
	irq_enable();
	wait_count(0, 0, 1);
	GUEST_CHECK_EQ(count[0][3], 0);
	its_int(8000, 1);
	wait_count(0, 5, 1);
}

static void guest_restored(u64 cpu)
{
	gic_init_cpu();
	irq_enable();
	if (cpu) {
		wait_count(1, 1, 1);
		GUEST_SYNC(1);
		while (!READ_ONCE(over))
			;
		return;
	}
	wait_count(0, 0, 1);
	GUEST_CHECK_EQ(count[0][3], 0);
	lpi_configure(LPI(3), 0xa0, true);
	its_inv(700, 1);
	wait_count(0, 3, 1);
	GUEST_SYNC(1);
	its_mapc(9, 0, true);
	its_int(700, 2);
	wait_count(0, 4, 1);
	its_int(3, 511);
	GUEST_SYNC(2);
}

static u64 device_entry(u64 next, void *itt, u32 bits)
{
	return 1UL << 63 | next << 49 | (u64)itt >> 8 << 5 | (bits - 1);
}

static u64 event_entry(u64 next, u32 lpi, u16 collection)
{
	return next << 48 | (u64)lpi << 16 | collection;
}

static bool has_collection(struct vm *vm, u64 vcpu, u16 collection)
{
	bool found = false;
	u64 entry;

	/* In any order, to the first one that is not valid. */
	for (u32 i = 0; (entry = VM_GLOBAL(vm, its_memory.collections[i])) >> 63; i++)
		found |= entry == (1UL << 63 | vcpu << 16 | collection);
	return found;
}

static void check_tables(struct vm *vm)
{
	volatile struct its_memory *m = &VM_GLOBAL(vm, its_memory);
	volatile u64 *devices = VM_GLOBAL(vm, kind) == ITS_INDIRECT ? m->second_level : m->devices;
	u32 valid = 0;

	EXPECT_EQ(devices[3], device_entry(1, its_memory.itt[0], ITT_BITS));
	EXPECT_EQ(devices[4], device_entry(696, its_memory.itt[3], 5));
	EXPECT_EQ(devices[700], device_entry(7300, its_memory.itt[1], ITT_BITS));
	EXPECT_EQ(devices[8000], device_entry(0, its_memory.itt[2], 1));
	for (u32 i = 0; i < ITS_PAGE / 8; i++)
		valid += devices[i] >> 63;
	EXPECT_EQ(valid, 4);
	EXPECT_EQ(m->itt[0][0], event_entry(5, LPI(0), 0));
	EXPECT_EQ(m->itt[0][5], event_entry(1, LPI(1), 1));
	EXPECT_EQ(m->itt[0][6], 0); /* of a collection that there is no more */
	EXPECT_EQ(m->itt[0][511], event_entry(0, LPI(2), 7));
	EXPECT_EQ(m->itt[1][1], event_entry(1, LPI(3), 0));
	EXPECT_EQ(m->itt[1][2], event_entry(0, LPI(4), 9));
	EXPECT_EQ(m->itt[2][1], event_entry(0, LPI(5), 0));
	EXPECT(has_collection(vm, 0, 0));
	EXPECT(has_collection(vm, 1, 1));
	EXPECT(has_collection(vm, 1, 7));
	EXPECT(has_collection(vm, NOT_MAPPED, 9));
	EXPECT(!has_collection(vm, 0, 8));
	for (u32 i = 0; i < 32; i++) {
		EXPECT_EQ(m->pending[0][LPI(i) / 8] >> LPI(i) % 8 & 1, i == 0 || i == 3);
		EXPECT_EQ(m->pending[1][LPI(i) / 8] >> LPI(i) % 8 & 1, i == 1);
	}
}

static void copy_reg(struct vm *from, struct vm *to, u32 group, u64 attr)
{
	u32 v;

	CHECK_OK(attr_get(from->gic, group, attr, &v));
	CHECK_OK(attr_set(to->gic, group, attr, &v));
}

/* GITS_ registers but GITS_CTLR, in the order that restoring wants. */
static const u64 saved_regs[] = { GITS_IIDR, GITS_CBASER, GITS_CREADR, GITS_CWRITER, GITS_BASER(0), GITS_BASER(1) };
struct its_regs {
	u64 value[ARRAY_SIZE(saved_regs)], ctlr;
};

static struct its_regs get_regs(int its)
{
	struct its_regs r;

	for (u32 i = 0; i < ARRAY_SIZE(saved_regs); i++)
		CHECK_OK(attr_get(its, REGS, saved_regs[i], &r.value[i]));
	CHECK_OK(attr_get(its, REGS, GITS_CTLR, &r.ctlr));
	return r;
}

static void set_regs(int its, const struct its_regs *r)
{
	for (u32 i = 0; i < ARRAY_SIZE(saved_regs); i++)
		CHECK_OK(attr_set(its, REGS, saved_regs[i], &r->value[i]));
}

/* A VM like `from`, as it is saved; its ITS has its registers, but nothing of its tables yet. */
static struct vm *copy(struct vm *from, const struct its_regs *regs, int *its)
{
	struct vm *to = vm_create(.main = guest_restored, .gic = true, .vcpus = 2);

	memcpy(to->ram, from->ram, to->ram_size);
	copy_reg(from, to, KVM_DEV_ARM_VGIC_GRP_DIST_REGS, GICD_CTLR);
	for (u64 i = 0; i < 2; i++) {
		((struct guest_cpu *)vm_host(to, (u64)to->vcpus[i].cpu))->entry = guest_restored;
		((struct guest_cpu *)vm_host(to, (u64)to->vcpus[i].cpu))->arg = i;
	}
	*its = its_create(to, GUEST_ITS);
	for (u64 i = 0; i < 2; i++) {
		for (u32 offset = GICR_PROPBASER; offset < GICR_PENDBASER + 8; offset += 4)
			copy_reg(from, to, KVM_DEV_ARM_VGIC_GRP_REDIST_REGS, i << 32 | offset);
		copy_reg(from, to, KVM_DEV_ARM_VGIC_GRP_REDIST_REGS, i << 32 | GICR_CTLR);
	}
	set_regs(*its, regs);
	return to;
}

static void *to_sync(void *arg)
{
	vcpu_sync(arg, 1);
	return NULL;
}

static struct vm *source(u64 tables, struct its_regs *regs)
{
	struct vm *vm = vm_create(.main = guest_source, .gic = true, .vcpus = 2);
	int its = its_create(vm, GUEST_ITS);

	VM_GLOBAL(vm, kind) = tables;
	vcpu_sync(&vm->vcpus[0], 1);
	CHECK_OK(attr_set(vm->gic, CONTROL, KVM_DEV_ARM_VGIC_SAVE_PENDING_TABLES, NULL));
	CHECK_OK(attr_set(its, CONTROL, SAVE, NULL));
	*regs = get_regs(its);
	CHECK_EQ(regs->ctlr, GITS_CTLR_ENABLED | GITS_CTLR_QUIESCENT);
	return vm;
}

static void save_and_restore(u64 tables)
{
	struct its_regs regs;
	struct vm *from = source(tables, &regs), *to;
	pthread_t threads[2];
	u64 n;
	int its;

	check_tables(from);
	to = copy(from, &regs, &its);
	CHECK_OK(attr_set(its, CONTROL, RESTORE, NULL));
	CHECK_OK(attr_set(its, REGS, GITS_CTLR, &regs.ctlr));
	vcpu_done(&from->vcpus[0]); /* the other goes on without harm */
	for (u32 i = 0; i < 2; i++)
		CHECK(pthread_create(&threads[i], NULL, to_sync, &to->vcpus[i]) == 0);
	for (u32 i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	/* What is mapped there is mapped here. */
	EXPECT_EQ(msi(to, 3, 0), 1);
	EXPECT_EQ(msi(to, 3, 5), 1);
	EXPECT_EQ(msi(to, 3, 511), 1);
	EXPECT_EQ(msi(to, 700, 1), 1);
	EXPECT_EQ(msi(to, 8000, 1), 1);
	EXPECT_EQ(msi(to, 3, 6), 0);
	EXPECT_EQ(msi(to, 3, 1), 0);
	EXPECT_EQ(msi(to, 4, 0), 0);
	EXPECT_EQ(msi(to, 700, 2), 0); /* not yet */
	vcpu_start(&to->vcpus[1]);
	vcpu_sync(&to->vcpus[0], 2);
	/* The last of the guest's commands, to the second vCPU, and the host's before it: one or two. */
	for (u64 end = now_us() + 8000000; (n = VM_GLOBAL(to, count[1][2])) == 0 || VM_GLOBAL(to, count[1][1]) < 2; sleep_us(500))
		CHECK(now_us() < end);
	CHECK(n <= 2);
	VM_GLOBAL(to, over) = 1;
	vcpu_join(&to->vcpus[1]);
	CHECK_EQ(VM_GLOBAL(to, count[0][0]), 2);
	CHECK_EQ(VM_GLOBAL(to, count[1][1]), 2);
	CHECK_EQ(VM_GLOBAL(to, count[0][3]), 2);
	CHECK_EQ(VM_GLOBAL(to, count[0][4]), 1);
	CHECK_EQ(VM_GLOBAL(to, count[0][5]), 1);
	CHECK_EQ(VM_GLOBAL(to, count[0][6]), 0);
}

TEST(saved_and_restored)
{
	save_and_restore(ITS_DIRECT);
}

TEST(saved_and_restored_with_two_levels)
{
	save_and_restore(ITS_INDIRECT);
}

/* Saved again from where it was restored, it is the same. */
TEST(saved_twice)
{
	struct its_regs regs;
	struct vm *from = source(ITS_DIRECT, &regs), *to;
	volatile struct its_memory *m;
	int its;

	to = copy(from, &regs, &its);
	m = &VM_GLOBAL(to, its_memory);
	CHECK_OK(attr_set(its, CONTROL, RESTORE, NULL));
	CHECK_OK(attr_set(its, REGS, GITS_CTLR, &regs.ctlr));
	/* What is pending is not there any more: it is in the controller. */
	EXPECT_EQ(m->pending[0][LPI(0) / 8], 0);
	EXPECT_EQ(m->pending[1][LPI(0) / 8], 0);
	memset((void *)m->itt, 0, sizeof(m->itt));
	memset((void *)m->devices, 0, sizeof(m->devices));
	memset((void *)m->collections, 0, sizeof(m->collections));
	CHECK_OK(attr_set(to->gic, CONTROL, KVM_DEV_ARM_VGIC_SAVE_PENDING_TABLES, NULL));
	CHECK_OK(attr_set(its, CONTROL, SAVE, NULL));
	/* But for the distance to the next one: 6 was not restored. */
	EXPECT_EQ(m->itt[0][5], event_entry(506, LPI(1), 1));
	m->itt[0][5] = event_entry(1, LPI(1), 1);
	check_tables(to);
}

/* ---- What cannot be ---- */

static int restore_again(int its, const struct its_regs *regs)
{
	CHECK_OK(attr_set(its, CONTROL, RESET, NULL));
	set_regs(its, regs);
	return attr_set(its, CONTROL, RESTORE, NULL);
}

TEST(impossible_tables)
{
	struct its_regs regs, bad;
	struct vm *from = source(ITS_DIRECT, &regs), *to;
	volatile struct its_memory *m;
	u64 old;
	int its;

	to = copy(from, &regs, &its);
	m = &VM_GLOBAL(to, its_memory);
#define WITH(place, value, error)                                            \
	do {                                                                 \
		old = m->place;                                              \
		m->place = (value);                                          \
		EXPECT_ERRNO(restore_again(its, &regs), error);              \
		m->place = old;                                              \
		CHECK_OK(attr_set(its, REGS, GITS_CTLR, &(u64){ 1 }));       \
		EXPECT_EQ(msi(to, 3, 0), 0); /* then nothing is mapped */    \
		EXPECT_EQ(msi(to, 8000, 1), 0);                              \
		CHECK_OK(attr_set(its, REGS, GITS_CTLR, &(u64){ 0 }));       \
	} while (0)
	WITH(devices[3], device_entry(1, its_memory.itt[0], 17), EINVAL); /* more bits than there are */
	WITH(devices[3], device_entry(1, (void *)0x0b000000, ITT_BITS), EFAULT); /* no memory */
	WITH(itt[0][0], event_entry(5, 8191, 0), EINVAL); /* no LPI */
	WITH(itt[0][0], event_entry(5, LPI(0), 55), EINVAL); /* no such collection */
	WITH(itt[0][0], event_entry(512, LPI(0), 0), EINVAL); /* the next one would be outside */
	WITH(itt[2][1], event_entry(1, LPI(5), 0), EINVAL);
	WITH(collections[0], 1UL << 63 | 77UL << 16, EINVAL); /* no such vCPU */
	WITH(collections[4], m->collections[0], EEXIST); /* twice */
	WITH(collections[0], 1UL << 63 | 8192, EINVAL); /* beyond the table */
	/* Tables where there is no memory. */
	for (u32 i = 4; i <= 5; i++) {
		bad = regs;
		bad.value[i] = (bad.value[i] & ~0xffffffff0000UL) | 0x0b000000;
		EXPECT_ERRNO(restore_again(its, &bad), EFAULT);
	}
	/* Twice is one time too many. */
	CHECK_OK(restore_again(its, &regs));
	EXPECT_ERRNO(attr_set(its, CONTROL, RESTORE, NULL), EEXIST);
	/* After all of that it can be restored. */
	CHECK_OK(restore_again(its, &regs));
	CHECK_OK(attr_set(its, REGS, GITS_CTLR, &regs.ctlr));
	EXPECT_EQ(msi(to, 3, 0), 1);
	EXPECT_EQ(msi(to, 8000, 1), 1);
	/* To save where no memory is cannot be, either. */
	CHECK_OK(vm_slot(to, 0, 0, 0, 0, NULL));
	EXPECT_ERRNO(attr_set(to->gic, CONTROL, KVM_DEV_ARM_VGIC_SAVE_PENDING_TABLES, NULL), EFAULT);
	EXPECT_ERRNO(attr_set(its, CONTROL, SAVE, NULL), EFAULT);
}

/* KVM_DEV_ARM_ITS_CTRL_RESET: as it was made. */
TEST(reset)
{
	static const u64 zero[] = { GITS_CBASER, GITS_CREADR, GITS_CWRITER };
	struct its_regs regs;
	struct vm *vm = vm_create(.main = guest_source, .gic = true, .vcpus = 2);
	int its = its_create(vm, GUEST_ITS);
	u64 v;

	vcpu_sync(&vm->vcpus[0], 1);
	regs = get_regs(its);
	EXPECT_EQ(msi(vm, 8000, 1), 1);
	CHECK_OK(attr_set(its, CONTROL, RESET, NULL));
	for (u32 i = 0; i < ARRAY_SIZE(zero); i++) {
		CHECK_OK(attr_get(its, REGS, zero[i], &v));
		EXPECT_EQ(v, 0);
	}
	for (u32 i = 0; i < 2; i++) {
		CHECK_OK(attr_get(its, REGS, GITS_BASER(i), &v));
		EXPECT_EQ(v >> 63, 0);
		EXPECT_EQ(v >> 56 & 7, i ? 4 : 1);
	}
	CHECK_OK(attr_get(its, REGS, GITS_CTLR, &v));
	EXPECT_EQ(v, GITS_CTLR_QUIESCENT);
	EXPECT_ERRNO(msi(vm, 8000, 1), EBUSY);
	/* Nothing was written to memory, and there is nothing left. */
	set_regs(its, &regs);
	CHECK_OK(attr_set(its, REGS, GITS_CTLR, &regs.ctlr));
	EXPECT_EQ(msi(vm, 8000, 1), 0);
	EXPECT_EQ(msi(vm, 3, 0), 0);
}

/* ---- Tables that the guest sets anew ---- */

static void guest_rewrites(u64 cpu)
{
	u64 devices, collections;

	map_everything();
	irq_enable();
	devices = mmio_read64(GUEST_ITS + GITS_BASER(0));
	collections = mmio_read64(GUEST_ITS + GITS_BASER(1));
	/* The same again, as Linux does when it comes back from a suspension: nothing is lost. */
	mmio_write32(GUEST_ITS + GITS_CTLR, 0);
	mmio_write64(GUEST_ITS + GITS_BASER(0), devices);
	mmio_write64(GUEST_ITS + GITS_BASER(1), collections);
	mmio_write32(GUEST_ITS + GITS_CTLR, GITS_CTLR_ENABLED);
	its_int(3, 0);
	wait_count(0, 0, 1);
	/* Enabled, they cannot be changed. */
	mmio_write64(GUEST_ITS + GITS_BASER(0), 0);
	mmio_write64(GUEST_ITS + GITS_CBASER, 0);
	its_int(3, 0);
	wait_count(0, 0, 2);
	/* Others: what was in them is gone, and can be mapped anew. */
	mmio_write32(GUEST_ITS + GITS_CTLR, 0);
	mmio_write64(GUEST_ITS + GITS_BASER(1), collections & ~GITS_VALID);
	mmio_write64(GUEST_ITS + GITS_BASER(1), collections);
	mmio_write32(GUEST_ITS + GITS_CTLR, GITS_CTLR_ENABLED);
	its_int(3, 0);
	wait_count(0, 0, 2);
	its_mapc(0, 0, true);
	its_int(3, 0); /* the event's collection was another one of that number */
	wait_count(0, 0, 2);
	its_discard(3, 0);
	its_mapd(3, its_memory.itt[0], ITT_BITS, true);
	its_mapti(3, 0, LPI(0), 0);
	its_int(3, 0);
	wait_count(0, 0, 3);
	mmio_write32(GUEST_ITS + GITS_CTLR, 0);
	mmio_write64(GUEST_ITS + GITS_BASER(0), devices & ~GITS_VALID);
	mmio_write64(GUEST_ITS + GITS_BASER(0), devices);
	mmio_write32(GUEST_ITS + GITS_CTLR, GITS_CTLR_ENABLED);
	its_int(3, 0);
	its_mapti(3, 0, LPI(0), 0); /* no such device */
	its_int(3, 0);
	wait_count(0, 0, 3);
	its_mapd(3, its_memory.itt[0], ITT_BITS, true);
	its_mapti(3, 0, LPI(0), 0);
	its_int(3, 0);
	wait_count(0, 0, 4);
}

TEST(rewritten_by_the_guest)
{
	struct vm *vm = vm_create(.main = guest_rewrites, .gic = true, .vcpus = 2);

	its_create(vm, GUEST_ITS);
	vcpu_done(&vm->vcpus[0]);
}
