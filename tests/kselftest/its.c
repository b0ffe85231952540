// SPDX-License-Identifier: GPL-2.0
/* The ITS as a guest sees it: its registers, and what each of its commands does. */
#include "abi.h"
#include "lpis.h"

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
