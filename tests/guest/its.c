// SPDX-License-Identifier: GPL-2.0
#include "its.h"

/* Write-back, allocating, inner shareable, in the places that GITS_BASER, GITS_CBASER and the redistributors have for it. */
#define GITS_ATTRIBUTES (7UL << 59 | 1UL << 10)
#define GICR_ATTRIBUTES (7UL << 7 | 1UL << 10)
#define BASER_64K (2UL << 8)

static struct its_memory *memory;
static u64 writer, size;

static u64 redist(u64 cpu)
{
	return GUEST_GICR + cpu * GUEST_GICR_STRIDE;
}

void its_start(struct its_memory *m, u32 queue_pages, int kind)
{
	u64 devices = (u64)m->devices;

	memory = m;
	writer = 0;
	size = queue_pages * 0x1000UL;
	if (kind == ITS_INDIRECT) {
		m->devices[0] = (u64)m->second_level | GITS_VALID;
		devices |= GITS_BASER_INDIRECT;
	}
	dsb(sy);
	mmio_write64(GUEST_ITS + GITS_BASER(0), GITS_VALID | GITS_ATTRIBUTES | BASER_64K | devices);
	mmio_write64(GUEST_ITS + GITS_BASER(1), GITS_VALID | GITS_ATTRIBUTES | BASER_64K | (u64)m->collections);
	mmio_write64(GUEST_ITS + GITS_CBASER, GITS_VALID | GITS_ATTRIBUTES | (u64)m->queue | (queue_pages - 1));
	mmio_write64(GUEST_ITS + GITS_CWRITER, 0);
	mmio_write32(GUEST_ITS + GITS_CTLR, GITS_CTLR_ENABLED);
}

void its_command(u64 word0, u64 word1, u64 word2, u64 word3)
{
	u64 *at = memory->queue + writer / 8;

	at[0] = word0;
	at[1] = word1;
	at[2] = word2;
	at[3] = word3;
	dsb(sy);
	writer = (writer + 32) % size;
	mmio_write64(GUEST_ITS + GITS_CWRITER, writer);
	while (mmio_read64(GUEST_ITS + GITS_CREADR) != writer)
		;
}

void lpis_on(u64 cpu)
{
	mmio_write64(redist(cpu) + GICR_PROPBASER, (u64)memory->config | GICR_ATTRIBUTES | (LPI_BITS - 1));
	mmio_write64(redist(cpu) + GICR_PENDBASER, (u64)memory->pending[cpu] | GICR_ATTRIBUTES);
	dsb(sy);
	mmio_write32(redist(cpu) + GICR_CTLR, GICR_CTLR_ENABLE_LPIS);
}

void lpis_off(u64 cpu)
{
	mmio_write32(redist(cpu) + GICR_CTLR, 0);
	while (mmio_read32(redist(cpu) + GICR_CTLR) & 1u << 3)
		;
}

void lpi_configure(u32 lpi, u8 priority, bool enable)
{
	memory->config[lpi - LPI(0)] = (priority & 0xfc) | 2 | enable;
	dsb(sy);
}
