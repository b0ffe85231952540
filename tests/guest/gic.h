/* SPDX-License-Identifier: GPL-2.0 */
/* GICv3 (IHI 0069) for guests: affinity routing, group 1, system-register CPU interface. */
#ifndef GUEST_GIC_H
#define GUEST_GIC_H

#include "guest.h"

/* Distributor registers. */
#define GICD_CTLR 0x0000
#define GICD_TYPER 0x0004
#define GICD_IIDR 0x0008
#define GICD_TYPER2 0x000c
#define GICD_IGROUPR 0x0080
#define GICD_ISENABLER 0x0100
#define GICD_ICENABLER 0x0180
#define GICD_ISPENDR 0x0200
#define GICD_ICPENDR 0x0280
#define GICD_ISACTIVER 0x0300
#define GICD_ICACTIVER 0x0380
#define GICD_IPRIORITYR 0x0400
#define GICD_ITARGETSR 0x0800
#define GICD_ICFGR 0x0c00
#define GICD_IGRPMODR 0x0d00
#define GICD_NSACR 0x0e00
#define GICD_SGIR 0x0f00
#define GICD_IROUTER 0x6000
#define GICD_PIDR2 0xffe8
#define GICD_CTLR_GRP1A 2
#define GICD_CTLR_ARE 0x10
#define GICD_CTLR_DS 0x40

/* Redistributor registers: first frame, then the SGI frame. */
#define GICR_CTLR 0x0000
#define GICR_IIDR 0x0004
#define GICR_TYPER 0x0008
#define GICR_WAKER 0x0014
#define GICR_PIDR2 0xffe8
#define GICR_SGI 0x10000
#define GICR_IGROUPR0 (GICR_SGI + 0x0080)
#define GICR_ISENABLER0 (GICR_SGI + 0x0100)
#define GICR_ICENABLER0 (GICR_SGI + 0x0180)
#define GICR_ISPENDR0 (GICR_SGI + 0x0200)
#define GICR_ICPENDR0 (GICR_SGI + 0x0280)
#define GICR_ISACTIVER0 (GICR_SGI + 0x0300)
#define GICR_ICACTIVER0 (GICR_SGI + 0x0380)
#define GICR_IPRIORITYR0 (GICR_SGI + 0x0400)
#define GICR_ICFGR0 (GICR_SGI + 0x0c00)
#define GICR_ICFGR1 (GICR_SGI + 0x0c04)
#define GICR_IGRPMODR0 (GICR_SGI + 0x0d00)

/* CPU interface, by encoding: older assemblers do not know the names. */
#define ICC_PMR_EL1 S3_0_C4_C6_0
#define ICC_IAR0_EL1 S3_0_C12_C8_0
#define ICC_EOIR0_EL1 S3_0_C12_C8_1
#define ICC_HPPIR0_EL1 S3_0_C12_C8_2
#define ICC_BPR0_EL1 S3_0_C12_C8_3
#define ICC_AP0R0_EL1 S3_0_C12_C8_4
#define ICC_AP1R0_EL1 S3_0_C12_C9_0
#define ICC_DIR_EL1 S3_0_C12_C11_1
#define ICC_RPR_EL1 S3_0_C12_C11_3
#define ICC_SGI1R_EL1 S3_0_C12_C11_5
#define ICC_ASGI1R_EL1 S3_0_C12_C11_6
#define ICC_SGI0R_EL1 S3_0_C12_C11_7
#define ICC_IAR1_EL1 S3_0_C12_C12_0
#define ICC_EOIR1_EL1 S3_0_C12_C12_1
#define ICC_HPPIR1_EL1 S3_0_C12_C12_2
#define ICC_BPR1_EL1 S3_0_C12_C12_3
#define ICC_CTLR_EL1 S3_0_C12_C12_4
#define ICC_SRE_EL1 S3_0_C12_C12_5
#define ICC_IGRPEN0_EL1 S3_0_C12_C12_6
#define ICC_IGRPEN1_EL1 S3_0_C12_C12_7

#define GIC_SPURIOUS 1023
#define PPI_VTIMER 27
#define PPI_PTIMER 30
#define SPI(n) (32 + (n))

#ifndef __ASSEMBLER__
/* Once per VM, and once on every vCPU. */
void gic_init_distributor(void);
void gic_init_cpu(void);

/* For SGIs and PPIs these act on the calling vCPU's redistributor. */
void gic_enable(u32 intid);
void gic_disable(u32 intid);
void gic_priority(u32 intid, u8 priority);
void gic_edge(u32 intid, bool edge);
void gic_set_pending(u32 intid, bool pending);
void gic_set_active(u32 intid, bool active);
bool gic_is_enabled(u32 intid);
bool gic_is_pending(u32 intid);
bool gic_is_active(u32 intid);
void gic_group(u32 intid, int group);
void gic_route(u32 intid, u64 mpidr);
/* EOImode 1: EOIR drops the priority, DIR deactivates. */
void gic_split_eoi(bool split);

static inline u64 gic_redist(void)
{
	return GUEST_GICR + guest_self()->index * GUEST_GICR_STRIDE;
}

static inline u32 gic_ack(void)
{
	u64 intid = read_sysreg(ICC_IAR1_EL1);

	dsb(sy);
	return intid & 0xffffff;
}

static inline void gic_eoi(u32 intid)
{
	write_sysreg(intid, ICC_EOIR1_EL1);
	isb();
}

static inline void gic_dir(u32 intid)
{
	write_sysreg(intid, ICC_DIR_EL1);
	isb();
}

/* SGI sgi to the vCPUs in targets, a bit per Aff0, of cluster (Aff3.Aff2.Aff1) 0. */
static inline void gic_sgi(u32 sgi, u16 targets)
{
	dsb(ishst);
	write_sysreg((u64)sgi << 24 | targets, ICC_SGI1R_EL1);
	isb();
}

/* To all vCPUs but the calling one. */
static inline void gic_sgi_others(u32 sgi)
{
	dsb(ishst);
	write_sysreg((u64)sgi << 24 | 1UL << 40, ICC_SGI1R_EL1);
	isb();
}
#endif
#endif
