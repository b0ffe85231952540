/* SPDX-License-Identifier: GPL-2.0 */
/* An interrupt translation service (IHI 0069, chapter 5) for guests, and the LPIs that it makes. */
#ifndef GUEST_ITS_H
#define GUEST_ITS_H

#include "gic.h"

#define GUEST_ITS 0x08080000

/* Its registers; the page of GITS_TRANSLATER follows. */
#define GITS_CTLR 0x0000
#define GITS_IIDR 0x0004
#define GITS_TYPER 0x0008
#define GITS_CBASER 0x0080
#define GITS_CWRITER 0x0088
#define GITS_CREADR 0x0090
#define GITS_BASER(n) (0x0100 + 8 * (n))
#define GITS_PIDR4 0xffd0
#define GITS_PIDR2 0xffe8
#define GITS_TRANSLATER 0x10040
#define GITS_CTLR_ENABLED 1u
#define GITS_CTLR_QUIESCENT (1u << 31)
#define GITS_VALID (1UL << 63)
#define GITS_BASER_INDIRECT (1UL << 62)

/* Of a redistributor. */
#define GICR_PROPBASER 0x0070
#define GICR_PENDBASER 0x0078
#define GICR_INVLPIR 0x00a0
#define GICR_INVALLR 0x00b0
#define GICR_SYNCR 0x00c0
#define GICR_CTLR_ENABLE_LPIS 1u
#define GICR_PENDBASER_PTZ (1UL << 62)

#define LPI(n) (8192 + (n))
#define LPI_BITS 14 /* of INTIDs: LPIs 8192 to 16383 */
#define ITS_CPUS 4
#define ITS_PAGE 0x10000

/* What a guest lends to its ITS and its redistributors, all of it 64 KiB aligned. */
struct its_memory {
	u64 devices[ITS_PAGE / 8], collections[ITS_PAGE / 8], second_level[ITS_PAGE / 8];
	u64 queue[ITS_PAGE / 8];
	u8 config[ITS_PAGE];
	u8 pending[ITS_CPUS][ITS_PAGE];
	u64 itt[16][ITS_PAGE / 16 / 8]; /* 512 events each */
} __attribute__((aligned(ITS_PAGE)));
#define ITT_BITS 9

/* How its_start sets things up. */
enum { ITS_DIRECT, ITS_INDIRECT /* the device table in two levels */ };

/* Tells the ITS of its memory and enables it. The queue has `queue_pages` pages of 4 KiB, 128 commands each. */
void its_start(struct its_memory *memory, u32 queue_pages, int kind);
/* GICR_PROPBASER and GICR_PENDBASER of one redistributor, and LPIs on; or off, where the tables stay. */
void lpis_on(u64 cpu);
void lpis_off(u64 cpu);
/* The configuration in memory; the GIC may go on with what it knows, until it is told (INV). */
void lpi_configure(u32 lpi, u8 priority, bool enable);

/* One command, done when this returns. Its words as in the queue. */
void its_command(u64 word0, u64 word1, u64 word2, u64 word3);

static inline u64 its_field(u64 value, u32 shift)
{
	return value << shift;
}

static inline void its_mapd(u32 device, const void *itt, u32 bits, bool valid)
{
	its_command(0x08 | its_field(device, 32), bits - 1, (u64)itt | its_field(valid, 63), 0);
}

/* Redistributors are named by GICR_TYPER.Processor_Number: GITS_TYPER.PTA is 0. */
static inline void its_mapc(u16 collection, u32 cpu, bool valid)
{
	its_command(0x09, 0, collection | its_field(cpu, 16) | its_field(valid, 63), 0);
}

static inline void its_mapti(u32 device, u32 event, u32 lpi, u16 collection)
{
	its_command(0x0a | its_field(device, 32), event | its_field(lpi, 32), collection, 0);
}

static inline void its_mapi(u32 device, u32 lpi, u16 collection)
{
	its_command(0x0b | its_field(device, 32), lpi, collection, 0);
}

static inline void its_movi(u32 device, u32 event, u16 collection)
{
	its_command(0x01 | its_field(device, 32), event, collection, 0);
}

static inline void its_int(u32 device, u32 event)
{
	its_command(0x03 | its_field(device, 32), event, 0, 0);
}

static inline void its_clear(u32 device, u32 event)
{
	its_command(0x04 | its_field(device, 32), event, 0, 0);
}

static inline void its_sync(u32 cpu)
{
	its_command(0x05, 0, its_field(cpu, 16), 0);
}

static inline void its_inv(u32 device, u32 event)
{
	its_command(0x0c | its_field(device, 32), event, 0, 0);
}

static inline void its_invall(u16 collection)
{
	its_command(0x0d, 0, collection, 0);
}

static inline void its_movall(u32 from, u32 to)
{
	its_command(0x0e, 0, its_field(from, 16), its_field(to, 16));
}

static inline void its_discard(u32 device, u32 event)
{
	its_command(0x0f | its_field(device, 32), event, 0, 0);
}
#endif
