// SPDX-License-Identifier: GPL-2.0
#include "gic.h"

static u64 frame(u32 intid)
{
	/* The SGI frame has the distributor's layout. */
	return intid < 32 ? gic_redist() + GICR_SGI : GUEST_GICD;
}

static void write_bit(u32 intid, u32 reg)
{
	mmio_write32(frame(intid) + reg + intid / 32 * 4, 1u << intid % 32);
}

static bool read_bit(u32 intid, u32 reg)
{
	return mmio_read32(frame(intid) + reg + intid / 32 * 4) >> intid % 32 & 1;
}

/* Register-write-pending: what was written has not reached everyone yet. */
static void wait_rwp(u32 intid)
{
	if (intid < 32)
		while (mmio_read32(gic_redist() + GICR_CTLR) & 1u << 3)
			;
	else
		while (mmio_read32(GUEST_GICD + GICD_CTLR) & 1u << 31)
			;
}

void gic_init_distributor(void)
{
	u32 lines = (mmio_read32(GUEST_GICD + GICD_TYPER) & 0x1f) + 1;

	mmio_write32(GUEST_GICD + GICD_CTLR, 0);
	for (u32 i = 1; i < lines; i++) {
		mmio_write32(GUEST_GICD + GICD_IGROUPR + i * 4, ~0u);
		mmio_write32(GUEST_GICD + GICD_ICENABLER + i * 4, ~0u);
		mmio_write32(GUEST_GICD + GICD_ICACTIVER + i * 4, ~0u);
		for (u32 j = 0; j < 8; j++)
			mmio_write32(GUEST_GICD + GICD_IPRIORITYR + i * 32 + j * 4, 0xa0a0a0a0);
	}
	wait_rwp(32);
	mmio_write32(GUEST_GICD + GICD_CTLR, GICD_CTLR_ARE | GICD_CTLR_GRP1A);
	wait_rwp(32);
}

void gic_init_cpu(void)
{
	u64 base = gic_redist();

	mmio_write32(base + GICR_WAKER, 0);
	while (mmio_read32(base + GICR_WAKER) & 4)
		;
	mmio_write32(base + GICR_IGROUPR0, ~0u);
	mmio_write32(base + GICR_ICENABLER0, ~0u);
	mmio_write32(base + GICR_ICACTIVER0, ~0u);
	for (u32 i = 0; i < 8; i++)
		mmio_write32(base + GICR_IPRIORITYR0 + i * 4, 0xa0a0a0a0);
	wait_rwp(0);
	write_sysreg(read_sysreg(ICC_SRE_EL1) | 1, ICC_SRE_EL1);
	isb();
	write_sysreg(0xff, ICC_PMR_EL1);
	write_sysreg(0, ICC_BPR1_EL1);
	write_sysreg(0, ICC_CTLR_EL1);
	write_sysreg(1, ICC_IGRPEN1_EL1);
	isb();
}

void gic_enable(u32 intid)
{
	write_bit(intid, GICD_ISENABLER);
	wait_rwp(intid);
}

void gic_disable(u32 intid)
{
	write_bit(intid, GICD_ICENABLER);
	wait_rwp(intid);
}

void gic_priority(u32 intid, u8 priority)
{
	mmio_write8(frame(intid) + GICD_IPRIORITYR + intid, priority);
}

void gic_edge(u32 intid, bool edge)
{
	u64 reg = frame(intid) + GICD_ICFGR + intid / 16 * 4;
	u32 bit = 2u << intid % 16 * 2;
	u32 value = mmio_read32(reg);

	mmio_write32(reg, edge ? value | bit : value & ~bit);
}

void gic_set_pending(u32 intid, bool pending)
{
	write_bit(intid, pending ? GICD_ISPENDR : GICD_ICPENDR);
}

void gic_set_active(u32 intid, bool active)
{
	write_bit(intid, active ? GICD_ISACTIVER : GICD_ICACTIVER);
}

bool gic_is_enabled(u32 intid)
{
	return read_bit(intid, GICD_ISENABLER);
}

bool gic_is_pending(u32 intid)
{
	return read_bit(intid, GICD_ISPENDR);
}

bool gic_is_active(u32 intid)
{
	return read_bit(intid, GICD_ISACTIVER);
}

void gic_group(u32 intid, int group)
{
	u64 reg = frame(intid) + GICD_IGROUPR + intid / 32 * 4;
	u32 bit = 1u << intid % 32;
	u32 value = mmio_read32(reg);

	mmio_write32(reg, group ? value | bit : value & ~bit);
}

void gic_route(u32 intid, u64 mpidr)
{
	mmio_write64(GUEST_GICD + GICD_IROUTER + intid * 8, mpidr & 0xff00ffffffUL);
}

void gic_split_eoi(bool split)
{
	write_sysreg(split ? 2 : 0, ICC_CTLR_EL1);
	isb();
}
