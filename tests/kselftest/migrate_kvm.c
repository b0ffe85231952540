// SPDX-License-Identifier: GPL-2.0
/*
 * A guest that goes from KVM to loft on the same machine, or from loft to KVM: each register that the one lists the other takes, and
 * reads back as it was, and so does the interrupt controller's state. Both hypervisors have to be there.
 *
 * KVM shows a guest what the CPU has, loft what loft offers. A VM that KVM has promised more does not come to loft: the register that says
 * so is refused, and with it those that the feature has added. That these, and no others, are refused is in `registers_as_they_are`; a VM
 * that has been made with less (`lower`) comes, and goes back.
 */
#include <unistd.h>

#include "abi.h"
#include "gic.h"
#include "msi.h"
#include "pauth.h"
#include "timer.h"

#define LOFT ktap_device
#define KVM "/dev/kvm"
#define vm_of(device, ...) (sys_open(device), vm_create(__VA_ARGS__))

#define ID_AA64PFR1_EL1 ARM64_SYS_REG(3, 0, 0, 4, 1)
#define ID_AA64ISAR1_EL1 ARM64_SYS_REG(3, 0, 0, 6, 1)
#define ID_AA64MMFR3_EL1 ARM64_SYS_REG(3, 0, 0, 7, 3)
#define POR_EL1 ARM64_SYS_REG(3, 0, 10, 2, 4)
#define POR_EL0 ARM64_SYS_REG(3, 3, 10, 2, 4)
#define TTBR0_EL1 ARM64_SYS_REG(3, 0, 2, 0, 0)
#define TTBR1_EL1 ARM64_SYS_REG(3, 0, 2, 0, 1)
#define TPIDR_EL1 ARM64_SYS_REG(3, 0, 13, 0, 4)

static void need_kvm(void)
{
	if (ktap_on_kvm())
		SKIP("this is about another hypervisor beside KVM");
	if (access(KVM, F_OK))
		SKIP("KVM is off here");
}

/* What loft does not offer, and what of it KVM can be told not to show: README, "From KVM to loft and back". */
static const struct {
	u64 reg;
	u8 shift;
	u8 most; /* what loft takes */
} hidden[] = {
	{ ID_AA64PFR1_EL1, 56, 0 }, /* DF2 */
	{ ID_AA64ISAR1_EL1, 60, 0 }, /* LS64 */
	{ ID_AA64MMFR3_EL1, 16, 0 }, /* S1POE */
};
static const u64 of_hidden[] = { POR_EL1, POR_EL0 };

static u64 field(u64 value, u32 shift)
{
	return value >> shift & 0xf;
}

static bool is_more(u32 i, u64 value)
{
	return field(value, hidden[i].shift) > hidden[i].most;
}

/* Makes a VM of KVM's promise no more than loft does. Its vCPU has not run. */
static void lower(struct vcpu *vcpu)
{
	for (u32 i = 0; i < ARRAY_SIZE(hidden); i++) {
		u64 value = reg_get(vcpu, hidden[i].reg);

		if (is_more(i, value))
			reg_set(vcpu, hidden[i].reg, (value & ~(0xfUL << hidden[i].shift)) | (u64)hidden[i].most << hidden[i].shift);
	}
}

/* Whether loft refuses this for what KVM promises. */
static bool is_promise(u64 id, u64 value)
{
	for (u32 i = 0; i < ARRAY_SIZE(of_hidden); i++)
		if (of_hidden[i] == id)
			return true;
	for (u32 i = 0; i < ARRAY_SIZE(hidden); i++)
		if (hidden[i].reg == id && is_more(i, value))
			return true;
	return false;
}

struct dump {
	u64 n;
	u64 reg[1000];
	u64 value[1000][4];
};

static u64 size_of(u64 id)
{
	return 1UL << ((id & KVM_REG_SIZE_MASK) >> KVM_REG_SIZE_SHIFT);
}

static struct dump *dump(struct vcpu *vcpu)
{
	struct dump *d = calloc(1, sizeof(*d));

	d->n = ARRAY_SIZE(d->reg);
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_REG_LIST, d));
	for (u64 i = 0; i < d->n; i++)
		CHECK_OK(reg_try_get(vcpu, d->reg[i], d->value[i]));
	return d;
}

/* Whether the timer is due: of a moment. */
static u64 comparable(u64 id, u64 value)
{
	return id == KVM_REG_ARM_TIMER_CTL || id == KVM_REG_ARM_PTIMER_CTL ? value & ~(u64)TIMER_ISTATUS : value;
}

static bool moves(u64 id)
{
	return id == KVM_REG_ARM_TIMER_CNT || id == KVM_REG_ARM_PTIMER_CNT;
}

/* Everything, in the order of the list; `promises`: what KVM alone offers is refused, else nothing is. */
static u64 restore(const struct dump *d, struct vcpu *to, bool promises)
{
	u64 refused = 0, there[4], before[4];

	for (u64 i = 0; i < d->n; i++) {
		bool promise = promises && is_promise(d->reg[i], d->value[i][0]);
		int error = reg_try_set(to, d->reg[i], d->value[i]) ? errno : 0;

		if (error && promise) {
			ktap_note("%#lx = %#lx is refused: errno %d", d->reg[i], d->value[i][0], error);
			CHECK(error == EINVAL || error == ENOENT);
			refused++;
			continue;
		}
		if (error || promise) {
			ktap_expect(__FILE__, __LINE__, "register %#lx = %#lx: errno %d", d->reg[i], d->value[i][0], error);
			if (!reg_try_get(to, d->reg[i], there))
				ktap_note("it is %#lx there", there[0]);
		}
	}
	for (u64 i = 0; i < d->n; i++) {
		if (promises && is_promise(d->reg[i], d->value[i][0]))
			continue;
		memset(there, 0, sizeof(there));
		memcpy(before, d->value[i], sizeof(before));
		before[0] = comparable(d->reg[i], before[0]);
		if (reg_try_get(to, d->reg[i], there))
			ktap_expect(__FILE__, __LINE__, "register %#lx: errno %d", d->reg[i], errno);
		there[0] = comparable(d->reg[i], there[0]);
		if (moves(d->reg[i]) ? there[0] < before[0] : memcmp(before, there, size_of(d->reg[i])))
			ktap_expect(__FILE__, __LINE__, "register %#lx: %#lx became %#lx", d->reg[i], d->value[i][0], there[0]);
	}
	return refused;
}

/* None is missing: what the list is of. */
static void same_list(const struct dump *a, const struct dump *b, const char *lacks)
{
	for (u64 i = 0; i < a->n; i++) {
		u64 j = 0;

		while (j < b->n && a->reg[i] != b->reg[j])
			j++;
		if (j == b->n)
			ktap_expect(__FILE__, __LINE__, "%s has no register %#lx", lacks, a->reg[i]);
	}
}

static void guest_nothing(u64 arg)
{
}

/* Whether a system register is one that userspace may give any value: not an identification register, no timer's. */
static bool takes_anything(u64 id)
{
	enum { IDENTIFICATION = 0, TIMERS = 14 };
	u64 op0 = id >> 14 & 3, crn = id >> 7 & 0xf;

	return (id & KVM_REG_ARM_COPROC_MASK) == KVM_REG_ARM64_SYSREG && op0 == 3 && crn != IDENTIFICATION && crn != TIMERS;
}

/*
 * Gives the registers of a vCPU that has not run values by which each is told from the others: the core registers, and the system
 * registers, in which each bit is set in one or the other.
 */
static void fill(struct vcpu *vcpu)
{
	struct dump *d = dump(vcpu);

	for (u64 i = 0; i < d->n; i++) {
		u64 id = d->reg[i], value[4] = { 0x1000 * i, ~i, 0, 0 };

		if ((id & KVM_REG_ARM_COPROC_MASK) == KVM_REG_ARM_CORE && id != CORE_REG(regs.pstate))
			CHECK_OK(reg_try_set(vcpu, id, value));
		/* What does not want this value keeps its own. */
		value[0] = i & 1 ? 0x5555555555550000 + i : ~0x5555555555550000 - i;
		if (takes_anything(id))
			(void)reg_try_set(vcpu, id, value);
	}
	free(d);
}

static const u32 FEATURES[] = { 0, 1 << KVM_ARM_VCPU_POWER_OFF, PTRAUTH, PTRAUTH | 1 << KVM_ARM_VCPU_POWER_OFF };

static bool has(u32 features)
{
	return !(features & PTRAUTH) || (sys_open(KVM), cap(KVM_CAP_ARM_PTRAUTH_ADDRESS) > 0);
}

/* A VM with a vCPU of each hypervisor's; with a GIC and an ITS, or without. */
static struct vm *make(const char *device, u32 features, bool gic)
{
	struct vm *vm = vm_of(device, .main = guest_nothing, .features = features, .gic = gic);

	if (gic)
		its_create(vm, GUEST_ITS);
	return vm;
}

/* Calls `check` with the vCPU of a VM of `there` and that of one of `here` with the same features, for all features. */
static void for_all_features(const char *there, const char *here, void (*check)(struct vcpu *from, struct vcpu *to))
{
	need_kvm();
	for (u32 i = 0; i < 2 * ARRAY_SIZE(FEATURES); i++) {
		struct vm *from, *to;

		if (!has(FEATURES[i / 2]))
			continue;
		from = make(there, FEATURES[i / 2], i & 1);
		to = make(here, FEATURES[i / 2], i & 1);
		check(&from->vcpus[0], &to->vcpus[0]);
		vm_destroy(from);
		vm_destroy(to);
	}
}

static void none_need_be_taken(struct vcpu *from, struct vcpu *to)
{
	struct dump *d;

	fill(from);
	d = dump(from);
	ktap_note("%lu registers, of which %lu are refused", d->n, restore(d, to, true));
	free(d);
}

TEST(registers_as_they_are)
{
	for_all_features(KVM, LOFT, none_need_be_taken);
}

static void lowered_are_taken(struct vcpu *from, struct vcpu *to)
{
	struct dump *there, *here;

	lower(from);
	fill(from);
	there = dump(from);
	EXPECT_EQ(restore(there, to, false), 0);
	here = dump(to);
	same_list(there, here, "loft");
	same_list(here, there, "KVM");
	free(there);
	free(here);
}

TEST(registers_of_a_vm_that_promises_less)
{
	for_all_features(KVM, LOFT, lowered_are_taken);
}

static void all_are_taken(struct vcpu *from, struct vcpu *to)
{
	struct dump *d;

	fill(from);
	d = dump(from);
	EXPECT_EQ(restore(d, to, false), 0);
	free(d);
}

/* A VM of loft's goes to KVM as it is. KVM has more registers, if the CPU has: they keep their values. */
TEST(registers_from_loft)
{
	for_all_features(LOFT, KVM, all_are_taken);
}

/* Feature bits that loft does not offer are refused when the vCPU is made, not when its registers come. */
TEST(features_of_kvm_alone)
{
	static const u32 features[] = { KVM_ARM_VCPU_EL1_32BIT, KVM_ARM_VCPU_PMU_V3, KVM_ARM_VCPU_SVE, KVM_ARM_VCPU_HAS_EL2 };
	struct kvm_vcpu_init init;
	int vm, vcpu;

	need_kvm();
	sys_open(LOFT);
	vm = CHECK_OK(ioctl(sys_fd(), KVM_CREATE_VM, 0));
	vcpu = CHECK_OK(ioctl(vm, KVM_CREATE_VCPU, 0));
	for (u32 i = 0; i < ARRAY_SIZE(features); i++) {
		CHECK_OK(ioctl(vm, KVM_ARM_PREFERRED_TARGET, &init));
		init.features[0] |= 1 << features[i];
		EXPECT_ERRNO(ioctl(vcpu, KVM_ARM_VCPU_INIT, &init), EINVAL);
	}
	EXPECT_EQ(cap(KVM_CAP_ARM_PMU_V3), 0);
	EXPECT_EQ(cap(KVM_CAP_ARM_SVE), 0);
}

/* A guest at work: interrupts of all kinds in all states, a timer, an SError that waits, keys. */
#define DEVICE_ID 5
#define KEYS 0x1234567812340000UL

static struct its_memory its_memory;
static u64 came[8], signatures[5], has_keys, hops;

enum { SGI, VTIMER, EDGE, LEVEL, MASKED, LPI_WAITING, LPI_NEW };

static void on_irq(struct guest_regs *regs)
{
	u32 intid = gic_ack();

	if (intid == GIC_SPURIOUS)
		return;
	if (intid == PPI_VTIMER) {
		timer_set_ctl(TIMER_VIRTUAL, 0);
		came[VTIMER]++;
	} else if (intid == 3) {
		came[SGI]++;
	} else if (intid == SPI(1)) {
		came[EDGE]++;
	} else if (intid == SPI(2)) {
		came[LEVEL]++;
		gic_disable(intid); /* the host leaves its line up */
	} else if (intid == SPI(3)) {
		came[MASKED]++;
	} else if (intid == LPI(0)) {
		came[LPI_WAITING]++;
	} else if (intid == LPI(1)) {
		came[LPI_NEW]++;
	} else {
		GUEST_FAIL("an interrupt from nowhere", intid, 0);
	}
	gic_eoi(intid);
}

/* One round for each hypervisor that the guest comes to. */
static void guest_work(u64 arg)
{
	u64 now[5], due, d8, vbar = read_sysreg(vbar_el1);

	guest_irq_handler = on_irq;
	gic_init_distributor();
	gic_init_cpu();
	its_start(&its_memory, 1, ITS_DIRECT);
	lpi_configure(LPI(0), 0xa0, true);
	lpi_configure(LPI(1), 0xa0, true);
	lpis_on(0);
	its_mapc(0, 0, true);
	its_mapd(DEVICE_ID, its_memory.itt[0], 5, true);
	its_mapti(DEVICE_ID, 0, LPI(0), 0);
	its_mapti(DEVICE_ID, 1, LPI(1), 0);
	gic_edge(SPI(1), true);
	gic_edge(SPI(3), true);
	gic_priority(SPI(3), 0x40);
	gic_enable(3);
	gic_enable(PPI_VTIMER);
	gic_enable(SPI(1));
	gic_route(SPI(1), 0);
	if (has_keys) {
		ALL_KEYS(WRITE_KEY, KEYS);
		pauth_enable();
		SIGN(signatures);
	}
	for (u64 hop = 1; hop <= hops; hop++) {
		for (u32 i = 0; i <= LPI_NEW; i++)
			WRITE_ONCE(came[i], 0);
		gic_enable(SPI(2));
		gic_sgi(3, 1);
		gic_set_pending(SPI(1), true);
		gic_set_pending(SPI(3), true); /* not enabled */
		gic_set_active(SPI(4), true);
		its_int(DEVICE_ID, 0);
		write_sysreg(0x1111 * hop, tpidr_el0);
		write_sysreg(0x5555000 * hop, dbgbvr0_el1);
		__asm__ volatile("fmov d8, %0" : : "r"(0x6666UL * hop));
		/* Older than the VM that it will be moved to. */
		guest_delay_us(20000);
		due = timer_counter(TIMER_VIRTUAL) + guest_us(200000);
		timer_set_cval(TIMER_VIRTUAL, due);
		timer_set_ctl(TIMER_VIRTUAL, TIMER_ENABLE);
		GUEST_SYNC(hop);
		__asm__ volatile("fmov %0, d8" : "=r"(d8));
		GUEST_CHECK_EQ(d8, 0x6666UL * hop);
		GUEST_CHECK_EQ(read_sysreg(tpidr_el0), 0x1111 * hop);
		GUEST_CHECK_EQ(read_sysreg(dbgbvr0_el1), 0x5555000 * hop);
		GUEST_CHECK_EQ(read_sysreg(vbar_el1), vbar);
		if (has_keys) {
			ALL_KEYS(CHECK_KEY, KEYS);
			SIGN(now);
			for (u32 k = 0; k < 5; k++)
				GUEST_CHECK_EQ(now[k], signatures[k]);
		}
		GUEST_CHECK_EQ(timer_cval(TIMER_VIRTUAL), due);
		GUEST_CHECK(gic_is_active(SPI(4)));
		gic_set_active(SPI(4), false);
		GUEST_CHECK(gic_is_pending(SPI(3)));
		/* All come now, and once each. The host has sent another message meanwhile. */
		irq_enable();
		while (!READ_ONCE(came[LPI_NEW]) || !READ_ONCE(came[LEVEL]) || !READ_ONCE(came[SGI]) || !READ_ONCE(came[EDGE]) || !READ_ONCE(came[LPI_WAITING]))
			;
		gic_enable(SPI(3));
		while (!READ_ONCE(came[VTIMER]) || !READ_ONCE(came[MASKED]))
			;
		GUEST_CHECK(timer_counter(TIMER_VIRTUAL) >= due);
		guest_delay_us(1000);
		irq_disable();
		gic_disable(SPI(3));
		for (u32 i = 0; i <= LPI_NEW; i++)
			GUEST_CHECK_EQ(came[i], 1);
	}
}

/* What a VMM saves of the distributor: registers with a bit or a field for each interrupt. */
static const struct {
	u32 first, bits, clear; /* clear: what is written there goes away first */
} banks[] = {
	{ GICD_IGROUPR, 1, 0 },
	{ GICD_ICFGR, 2, 0 },
	{ GICD_IPRIORITYR, 8, 0 },
	{ GICD_ISENABLER, 1, GICD_ICENABLER },
	{ GICD_ISPENDR, 1, GICD_ICPENDR },
	{ GICD_ISACTIVER, 1, GICD_ICACTIVER },
};
#define LINES 128U
#define SYSREG(crn, crm, op2) (ARM64_SYS_REG(3, 0, crn, crm, op2) & 0xffff)
static const u64 interface[] = {
	SYSREG(12, 12, 5), SYSREG(4, 6, 0), SYSREG(12, 8, 3), SYSREG(12, 12, 3), SYSREG(12, 12, 6), SYSREG(12, 12, 7),
	SYSREG(12, 8, 4), SYSREG(12, 9, 0), SYSREG(12, 12, 4),
};
static const u32 its_regs[] = { GITS_IIDR, GITS_CBASER, GITS_CREADR, GITS_CWRITER, GITS_BASER(0), GITS_BASER(1), GITS_CTLR };

/* The same register of both, which is then the same. */
static void copy(int from, int to, u32 group, u64 attr, bool wide)
{
	u64 value = 0, now = 0;

	if (attr_get(from, group, attr, &value))
		ktap_expect(__FILE__, __LINE__, "group %u, %#lx cannot be read: errno %d", group, attr, errno);
	else if (attr_set(to, group, attr, &value))
		ktap_expect(__FILE__, __LINE__, "group %u, %#lx = %#lx: errno %d", group, attr, value, errno);
	else if (attr_get(to, group, attr, &now) || (wide ? now : (u32)now) != (wide ? value : (u32)value))
		ktap_expect(__FILE__, __LINE__, "group %u, %#lx: %#lx became %#lx", group, attr, value, now);
}

static void copy_lines(struct vm *from, struct vm *to, u32 group, u64 where, u32 base, u32 first, u32 last)
{
	for (u32 bank = 0; bank < ARRAY_SIZE(banks); bank++) {
		u32 step = 32 / banks[bank].bits, none = ~0U;

		for (u32 line = first; line < last; line += step) {
			if (banks[bank].clear)
				CHECK_OK(attr_set(to->gic, group, where | (base + banks[bank].clear + line / step * 4), &none));
			copy(from->gic, to->gic, group, where | (base + banks[bank].first + line / step * 4), false);
		}
	}
}

static void copy_gic(struct vm *from, int its_from, struct vm *to, int its_to)
{
	const u32 dist = KVM_DEV_ARM_VGIC_GRP_DIST_REGS, redist = KVM_DEV_ARM_VGIC_GRP_REDIST_REGS;
	const u64 levels = VGIC_LEVEL_INFO_LINE_LEVEL << KVM_DEV_ARM_VGIC_LINE_LEVEL_INFO_SHIFT;

	copy(from->gic, to->gic, dist, GICD_IIDR, false);
	copy(from->gic, to->gic, dist, GICD_CTLR, false);
	copy(from->gic, to->gic, redist, GICR_WAKER, false);
	for (u32 offset = 0x70; offset < 0x80; offset += 4)
		copy(from->gic, to->gic, redist, offset, false);
	copy(from->gic, to->gic, redist, GICR_CTLR, false);
	copy_lines(from, to, redist, 0, GICR_SGI, 0, 32);
	copy_lines(from, to, dist, 0, 0, 32, LINES);
	for (u32 line = 32; line < LINES; line++)
		for (u32 half = 0; half < 2; half++)
			copy(from->gic, to->gic, dist, GICD_IROUTER + 8 * line + 4 * half, false);
	for (u32 line = 0; line < LINES; line += 32)
		copy(from->gic, to->gic, KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO, levels | line, false);
	for (u32 i = 0; i < ARRAY_SIZE(interface); i++)
		copy(from->gic, to->gic, KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS, interface[i], true);
	for (u32 i = 0; i < ARRAY_SIZE(its_regs); i++) {
		/* The tables come before what switches it on. */
		if (its_regs[i] == GITS_CTLR)
			CHECK_OK(attr_set(its_to, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_ITS_RESTORE_TABLES, NULL));
		copy(its_from, its_to, KVM_DEV_ARM_VGIC_GRP_ITS_REGS, its_regs[i], true);
	}
}

/* All that a VMM moves. */
static struct vm *move(struct vm *from, int *its, const char *device)
{
	struct vm *to = vm_of(device, .main = guest_work, .features = VM_GLOBAL(from, has_keys) ? PTRAUTH : 0, .gic = true);
	struct vcpu *there = &from->vcpus[0], *here = &to->vcpus[0];
	struct kvm_vcpu_events events = { 0 }, events_now = { 0 };
	struct kvm_mp_state state;
	int its_from = *its;
	struct dump *d;

	*its = its_create(to, GUEST_ITS);
	CHECK_OK(attr_set(its_from, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_ITS_SAVE_TABLES, NULL));
	CHECK_OK(attr_set(from->gic, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_SAVE_PENDING_TABLES, NULL));
	memcpy(to->ram, from->ram, from->ram_size);
	d = dump(there);
	restore(d, here, false);
	free(d);
	CHECK_OK(ioctl(there->fd, KVM_GET_VCPU_EVENTS, &events));
	CHECK_OK(ioctl(here->fd, KVM_SET_VCPU_EVENTS, &events));
	CHECK_OK(ioctl(here->fd, KVM_GET_VCPU_EVENTS, &events_now));
	CHECK(!memcmp(&events, &events_now, sizeof(events)));
	CHECK_OK(ioctl(there->fd, KVM_GET_MP_STATE, &state));
	CHECK_OK(ioctl(here->fd, KVM_SET_MP_STATE, &state));
	copy_gic(from, its_from, to, *its);
	return to;
}

/* Is at work on one, then on the other, `hops` times in all. */
static void wander(const char *first, const char *second, u64 moves)
{
	bool keys;
	struct vm *vm, *next;
	int its;

	need_kvm();
	sys_open(KVM);
	keys = cap(KVM_CAP_ARM_PTRAUTH_ADDRESS) > 0;
	vm = vm_of(first, .main = guest_work, .features = keys ? PTRAUTH : 0, .gic = true);
	its = its_create(vm, GUEST_ITS);
	VM_GLOBAL(vm, has_keys) = keys;
	VM_GLOBAL(vm, hops) = moves;
	if (!strcmp(first, KVM))
		lower(&vm->vcpus[0]);
	for (u64 hop = 1; hop <= moves; hop++) {
		vcpu_sync(&vm->vcpus[0], hop);
		vm_irq(vm, SPI(2), 1);
		/* The exit's access ends when KVM_RUN is called again. */
		vm->vcpus[0].run->immediate_exit = 1;
		CHECK_EQ(vcpu_run(&vm->vcpus[0]), -EINTR);
		next = move(vm, &its, hop % 2 ? second : first);
		vm_destroy(vm);
		vm = next;
		CHECK_EQ(msi(vm, DEVICE_ID, 1), 1);
	}
	vcpu_done(&vm->vcpus[0]);
}

TEST(guest_from_kvm_and_back)
{
	wander(KVM, LOFT, 4);
}

TEST(guest_from_loft_and_back)
{
	wander(LOFT, KVM, 4);
}
