// SPDX-License-Identifier: GPL-2.0
/*
 * The interrupt controller out of reset: every word of it as the guest and as userspace read it, against what KVM 7.2 has
 * there. What is meant to be different has a row for each of the two, with the reason.
 */
#include "msi.h"

enum { KVM = 1, LOFT = 2, ALL = 3 };

/* The words from `from` on and before `to` read `value`. What no row is about reads as zero. */
struct run {
	u32 from, to, value;
	u8 where; /* 0: ALL */
};

#define RANGE(begin, end, what, ...) { .from = (begin), .to = (end), .value = (what), ##__VA_ARGS__ }
#define WORD(at, what, ...) RANGE(at, (at) + 4, what, ##__VA_ARGS__)
#define END RANGE(0, 0, 0)

/* 128 interrupts. */
static const struct run dist[] = {
	WORD(GICD_CTLR, GICD_CTLR_ARE | GICD_CTLR_DS),
	WORD(GICD_TYPER, 9 << 19 | 3, .where = KVM),
	/* No1N: GICD_IROUTERn.Interrupt_Routing_Mode is not there. KVM has none either, and does not say so. */
	WORD(GICD_TYPER, 1 << 25 | 9 << 19 | 3, .where = LOFT),
	WORD(GICD_IIDR, 0x4b00343b),
	/* GICD_STATUSR: no error has been reported. KVM, where it is no register, has all of its bits set. */
	WORD(0x0010, ~0u, .where = KVM),
	RANGE(GICD_IGROUPR + 4, GICD_IGROUPR + 16, ~0u),
	RANGE(GICD_ICFGR + 8, GICD_ICFGR + 32, 0xaaaaaaaa),
	WORD(GICD_PIDR2, 0x3b),
	END,
};

/* Where there is an ITS. */
static const struct run dist_its[] = {
	WORD(GICD_TYPER, 15 << 19 | 1 << 17 | 3, .where = KVM),
	WORD(GICD_TYPER, 1 << 25 | 15 << 19 | 1 << 17 | 3, .where = LOFT),
	END,
};

/* Of the second of two vCPUs. */
static const struct run redist[] = {
	WORD(GICR_CTLR, 6), /* CES, IR */
	WORD(GICR_IIDR, 0x4b00043b),
	WORD(GICR_TYPER, 1 << 8 | 1 << 4),
	WORD(GICR_TYPER + 4, 1),
	WORD(GICR_PENDBASER, 1 << 10 | 3 << 7), /* inner shareable, inner write-back */
	WORD(GICR_PIDR2, 0x3b),
	WORD(GICR_IGROUPR0, ~0u),
	WORD(GICR_ISENABLER0, 0xffff),
	WORD(GICR_ICENABLER0, 0xffff),
	WORD(GICR_ICFGR0, 0xaaaaaaaa),
	END,
};

static const struct run redist_its[] = {
	WORD(GICR_TYPER, 1 << 8 | 1 << 4 | 1),
	WORD(GICR_PROPBASER, 1 << 10 | 3 << 7),
	END,
};

static const struct run its[] = {
	WORD(GITS_CTLR, GITS_CTLR_QUIESCENT),
	WORD(GITS_IIDR, 0x4b00043b),
	WORD(GITS_TYPER, 15 << 13 | 15 << 8 | 7 << 4 | 1), /* 16 bits of devices and of events, entries of 8 bytes */
	/* Entries of 8 bytes, pages of 64 KiB, inner shareable; devices, and collections. */
	WORD(GITS_BASER(0), 1 << 10 | 2 << 8),
	WORD(GITS_BASER(0) + 4, 0x19070000),
	WORD(GITS_BASER(1), 1 << 10 | 2 << 8),
	WORD(GITS_BASER(1) + 4, 0x1c070000),
	/* GITS_PIDRn and GITS_CIDRn. */
	WORD(GITS_PIDR4, 0x40),
	WORD(0xffe0, 0x92),
	WORD(0xffe4, 0xb4),
	WORD(GITS_PIDR2, 0x3b),
	WORD(0xfff0, 0x0d),
	WORD(0xfff4, 0xf0),
	WORD(0xfff8, 0x05),
	WORD(0xfffc, 0xb1),
	END,
};

/* The words that KVM_HAS_DEVICE_ATTR knows. */
static const struct run dist_known[] = {
	RANGE(GICD_CTLR, 0x14, 1),
	RANGE(GICD_IGROUPR, GICD_IGROUPR + 16, 1),
	RANGE(GICD_ISENABLER, GICD_ISENABLER + 16, 1),
	RANGE(GICD_ICENABLER, GICD_ICENABLER + 16, 1),
	RANGE(GICD_ISPENDR, GICD_ISPENDR + 16, 1),
	RANGE(GICD_ICPENDR, GICD_ICPENDR + 16, 1),
	RANGE(GICD_ISACTIVER, GICD_ISACTIVER + 16, 1),
	RANGE(GICD_ICACTIVER, GICD_ICACTIVER + 16, 1),
	RANGE(GICD_IPRIORITYR, GICD_IPRIORITYR + 128, 1),
	RANGE(GICD_ITARGETSR, GICD_ITARGETSR + 128, 1),
	RANGE(GICD_ICFGR, GICD_ICFGR + 32, 1),
	RANGE(GICD_IGRPMODR, GICD_IGRPMODR + 16, 1),
	RANGE(GICD_IROUTER, GICD_IROUTER + 1024, 1),
	RANGE(0xffd0, 0x10000, 1),
	END,
};

static const struct run redist_known[] = {
	RANGE(GICR_CTLR, 0x10, 1),
	/* GICR_STATUSR. KVM means to have it, but its table is not in order there and it is not found. */
	WORD(0x0010, 1, .where = LOFT),
	WORD(GICR_WAKER, 1),
	RANGE(GICR_PROPBASER, 0x80, 1),
	RANGE(GICR_INVLPIR, 0xa8, 1),
	RANGE(GICR_INVALLR, 0xb8, 1),
	WORD(GICR_SYNCR, 1),
	RANGE(0xffd0, 0x10000, 1),
	WORD(GICR_IGROUPR0, 1),
	WORD(GICR_ISENABLER0, 1),
	WORD(GICR_ICENABLER0, 1),
	WORD(GICR_ISPENDR0, 1),
	WORD(GICR_ICPENDR0, 1),
	WORD(GICR_ISACTIVER0, 1),
	WORD(GICR_ICACTIVER0, 1),
	RANGE(GICR_IPRIORITYR0, GICR_IPRIORITYR0 + 32, 1),
	RANGE(GICR_ICFGR0, GICR_ICFGR1 + 4, 1),
	WORD(GICR_IGRPMODR0, 1),
	WORD(GICR_SGI + 0x0e00, 1),
	END,
};

/* Of a register of 64 bits, the lower word. */
static const struct run its_known[] = {
	RANGE(GITS_CTLR, GITS_TYPER + 4, 1),
	WORD(GITS_CBASER, 1),
	WORD(GITS_CWRITER, 1),
	WORD(GITS_CREADR, 1),
	WORD(GITS_BASER(0), 1),
	WORD(GITS_BASER(1), 1),
	WORD(GITS_BASER(2), 1),
	WORD(GITS_BASER(3), 1),
	WORD(GITS_BASER(4), 1),
	WORD(GITS_BASER(5), 1),
	WORD(GITS_BASER(6), 1),
	WORD(GITS_BASER(7), 1),
	RANGE(GITS_PIDR4, 0x10000, 1),
	END,
};

static const struct run *find(const struct run *run, u32 at)
{
	u8 here = ktap_on_kvm() ? KVM : LOFT;

	for (; run->to; run++) {
		if (at >= run->from && at < run->to && ((run->where ?: ALL) & here))
			return run;
	}
	return NULL;
}

/* `more`: what is different from `runs`. A line for each run of words that are not as they should be. */
static void compare(const char *what, const u32 *words, u32 size, const struct run *runs, const struct run *more)
{
	u32 begun = size, value = 0, wanted = 0;

	for (u32 at = 0; at <= size; at += 4) {
		const struct run *run = more ? find(more, at) : NULL;
		u32 now = at < size ? words[at / 4] : 0, want = 0;

		run = run ?: find(runs, at);
		if (at < size && run)
			want = run->value;
		if (begun < size && (at == size || now == want || now != value || want != wanted)) {
			ktap_expect(__FILE__, __LINE__, "%s: %#06x to %#06x read %#010x, wanted %#010x", what, begun, at - 4, value, wanted);
			begun = size;
		}
		if (begun == size && now != want)
			begun = at, value = now, wanted = want;
	}
}

/* ---- As the guest sees it ---- */

static u32 words[GUEST_GICR_STRIDE / 4];
static bool has_its;

enum { PMR, BPR0, AP0R0, AP1R0, BPR1, CTLR, SRE, IGRPEN0, IGRPEN1, SAVED, RPR = SAVED, HPPIR0, HPPIR1, IAR0, IAR1, SYSREGS };

static u64 sysregs[SYSREGS];

static void read_frame(u64 frame, u32 size)
{
	for (u32 at = 0; at < size; at += 4)
		words[at / 4] = mmio_read32(frame + at);
}

static void guest_reads(u64 arg)
{
	read_frame(GUEST_GICD, 0x10000);
	GUEST_SYNC(1);
	read_frame(GUEST_GICR + GUEST_GICR_STRIDE, GUEST_GICR_STRIDE);
	GUEST_SYNC(2);
	if (has_its)
		read_frame(GUEST_ITS, 0x10000);
	GUEST_SYNC(3);
	sysregs[PMR] = read_sysreg(ICC_PMR_EL1);
	sysregs[BPR0] = read_sysreg(ICC_BPR0_EL1);
	sysregs[AP0R0] = read_sysreg(ICC_AP0R0_EL1);
	sysregs[AP1R0] = read_sysreg(ICC_AP1R0_EL1);
	sysregs[BPR1] = read_sysreg(ICC_BPR1_EL1);
	sysregs[CTLR] = read_sysreg(ICC_CTLR_EL1);
	sysregs[SRE] = read_sysreg(ICC_SRE_EL1);
	sysregs[IGRPEN0] = read_sysreg(ICC_IGRPEN0_EL1);
	sysregs[IGRPEN1] = read_sysreg(ICC_IGRPEN1_EL1);
	sysregs[RPR] = read_sysreg(ICC_RPR_EL1);
	sysregs[HPPIR0] = read_sysreg(ICC_HPPIR0_EL1);
	sysregs[HPPIR1] = read_sysreg(ICC_HPPIR1_EL1);
	sysregs[IAR0] = read_sysreg(ICC_IAR0_EL1);
	sysregs[IAR1] = read_sysreg(ICC_IAR1_EL1);
	GUEST_SYNC(4);
}

static u32 *read_words(struct vm *vm)
{
	return vm_host(vm, (u64)words);
}

static void guest_view(struct vm *vm, bool with_its)
{
	struct vcpu *vcpu = &vm->vcpus[0];
	volatile u64 *icc = vm_host(vm, (u64)sysregs);
	u64 bits;

	VM_GLOBAL(vm, has_its) = with_its;
	vcpu_sync(vcpu, 1);
	compare("guest, distributor", read_words(vm), 0x10000, dist, with_its ? dist_its : NULL);
	vcpu_sync(vcpu, 2);
	compare("guest, redistributor", read_words(vm), GUEST_GICR_STRIDE, redist, with_its ? redist_its : NULL);
	vcpu_sync(vcpu, 3);
	if (with_its)
		compare("guest, ITS", read_words(vm), 0x10000, its, NULL);
	vcpu_sync(vcpu, 4);
	/* How many bits priorities have is the hardware's, and with it the smallest binary points. */
	bits = (icc[CTLR] >> 8 & 7) + 1;
	EXPECT_EQ(icc[CTLR] & 0xff, 0);
	EXPECT_EQ(icc[PMR], 0);
	EXPECT_EQ(icc[BPR0], 7 - bits);
	EXPECT_EQ(icc[BPR1], 8 - bits);
	EXPECT_EQ(icc[SRE], 7);
	EXPECT_EQ(icc[AP0R0], 0);
	EXPECT_EQ(icc[AP1R0], 0);
	EXPECT_EQ(icc[IGRPEN0], 0);
	EXPECT_EQ(icc[IGRPEN1], 0);
	EXPECT_EQ(icc[RPR], 0xff);
	for (u32 i = HPPIR0; i <= IAR1; i++)
		EXPECT_EQ(icc[i], GIC_SPURIOUS);
}

/* There are up to 65,000 words to read: too many for a kernel that checks each step. */
static void not_when_slow(void)
{
	if (ktap_times(8) < 8)
		SKIP("the machine is slow");
}

TEST(guest)
{
	struct vm *vm;

	not_when_slow();
	vm = vm_create(.main = guest_reads, .gic = true, .vcpus = 2);
	guest_view(vm, false);
}

TEST(guest_with_its)
{
	struct vm *vm;

	not_when_slow();
	vm = vm_create(.main = guest_reads, .gic = true, .vcpus = 2);
	its_create(vm, GUEST_ITS);
	guest_view(vm, true);
}

/* ---- As userspace sees it ---- */

static u32 read_back[GUEST_GICR_STRIDE / 4], known[GUEST_GICR_STRIDE / 4];

static void save_frame(int fd, u32 group, u64 of, u32 size)
{
	for (u32 at = 0; at < size; at += 4) {
		known[at / 4] = !attr_has(fd, group, of | at);
		read_back[at / 4] = 0;
		CHECK_OK(attr_get(fd, group, of | at, &read_back[at / 4]));
	}
}

static void user_view(bool with_its)
{
	static const u16 icc[] = {
		[PMR] = 0xc230, [BPR0] = 0xc643, [AP0R0] = 0xc644, [AP1R0] = 0xc648, [BPR1] = 0xc663,
		[CTLR] = 0xc664, [SRE] = 0xc665, [IGRPEN0] = 0xc666, [IGRPEN1] = 0xc667,
	};
	struct vm *vm = vm_create(.main = guest_reads, .gic = true, .vcpus = 2);
	u64 second = 1UL << KVM_DEV_ARM_VGIC_V3_MPIDR_SHIFT, value[SAVED];
	int its_fd = with_its ? its_create(vm, GUEST_ITS) : -1;
	u32 level;

	save_frame(vm->gic, KVM_DEV_ARM_VGIC_GRP_DIST_REGS, 0, 0x10000);
	compare("userspace, distributor", read_back, 0x10000, dist, with_its ? dist_its : NULL);
	compare("userspace has, distributor", known, 0x10000, dist_known, NULL);
	save_frame(vm->gic, KVM_DEV_ARM_VGIC_GRP_REDIST_REGS, second, GUEST_GICR_STRIDE);
	compare("userspace, redistributor", read_back, GUEST_GICR_STRIDE, redist, with_its ? redist_its : NULL);
	compare("userspace has, redistributor", known, GUEST_GICR_STRIDE, redist_known, NULL);
	for (u32 i = 0; with_its && i < 0x10000; i += 4) {
		u64 wide = 0;

		known[i / 4] = !attr_has(its_fd, KVM_DEV_ARM_VGIC_GRP_ITS_REGS, i);
		if (known[i / 4])
			CHECK_OK(attr_get(its_fd, KVM_DEV_ARM_VGIC_GRP_ITS_REGS, i, &wide));
		read_back[i / 4] = wide;
		if (i % 8 == 0 && wide >> 32) {
			read_back[i / 4 + 1] = wide >> 32;
			known[i / 4 + 1] = 0;
			i += 4;
		}
	}
	if (with_its) {
		compare("userspace, ITS", read_back, 0x10000, its, NULL);
		compare("userspace has, ITS", known, 0x10000, its_known, NULL);
	}
	for (u32 i = 0; i < 128; i += 32) {
		level = ~0u;
		CHECK_OK(attr_get(vm->gic, KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO,
				  second | VGIC_LEVEL_INFO_LINE_LEVEL << KVM_DEV_ARM_VGIC_LINE_LEVEL_INFO_SHIFT | i, &level));
		EXPECT_EQ(level, 0);
	}
	for (u32 i = 0; i < SAVED; i++)
		CHECK_OK(attr_get(vm->gic, KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS, second | icc[i], &value[i]));
	/* How the hardware is shows in ICC_CTLR_EL1. A vCPU that has not run has not got the smallest binary points yet. */
	for (u32 i = 0; i < SAVED; i++)
		EXPECT_EQ(value[i], i == SRE ? 7 : i == CTLR ? value[CTLR] & 0xff00 : 0);
}

TEST(userspace)
{
	not_when_slow();
	user_view(false);
}

TEST(userspace_with_its)
{
	not_when_slow();
	user_view(true);
}
