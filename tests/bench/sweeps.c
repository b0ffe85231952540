// SPDX-License-Identifier: GPL-2.0
/*
 * Sweeps: every operation of a kind, one by one, on one CPU, in the guest. Of each sweep two are reported: SWEEP_median, the
 * operation that is in the middle, and SWEEP_dearest, and which they are.
 */
#include "bench.h"

#define SWEEP_MOST 128
#define SWEEP_OPERATIONS 10
#define SWEEP_ROUNDS 11

/* The guest's results, and how many operations the sweep has. */
static u64 sweep_ticks[SWEEP_MOST][SWEEP_ROUNDS], sweep_count;

/* Guest: BENCH_REPEAT for operation AT of a sweep. */
#define SWEEP_REPEAT(AT, TEXT, ...) BENCH_REPEAT_(SWEEP_ROUNDS, SWEEP_OPERATIONS, sweep_ticks[AT], TEXT, __VA_ARGS__)

static int compare(const void *a, const void *b)
{
	const u64 *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* An operation's number, behind its median. */
struct swept {
	u64 median, at;
};

/* Runs the guest to its end; prints the operation in the middle and the dearest, whose names `name` writes into its buffer. */
static void sweep(const char *what, void (*guest)(u64), void (*name)(char *buffer, size_t size, u64 at))
{
	static const char *const kinds[] = { "median", "dearest" };
	struct vm *vm = bench_vm(.main = guest);
	struct swept swept[SWEEP_MOST];
	u64 count;

	vcpu_done(&vm->vcpus[0]);
	count = VM_GLOBAL(vm, sweep_count);
	CHECK(count && count <= SWEEP_MOST);
	for (u64 i = 0; i < count; i++) {
		u64 ticks[SWEEP_ROUNDS];

		for (u32 round = 0; round < SWEEP_ROUNDS; round++)
			ticks[round] = VM_GLOBAL(vm, sweep_ticks)[i][round];
		qsort(ticks, SWEEP_ROUNDS, sizeof(*ticks), compare);
		swept[i] = (struct swept){ ticks[SWEEP_ROUNDS / 2], i };
	}
	qsort(swept, count, sizeof(*swept), compare);
	for (u32 kind = 0; kind < 2; kind++) {
		const struct swept *it = &swept[kind ? count - 1 : (count - 1) / 2];
		char title[64], which[64];

		snprintf(title, sizeof(title), "%s_%s", what, kinds[kind]);
		name(which, sizeof(which), it->at);
		bench_report_of(title, which, SWEEP_OPERATIONS, SWEEP_ROUNDS, VM_GLOBAL(vm, sweep_ticks)[it->at]);
	}
	for (u64 i = 0; i < count; i++) {
		char which[64];

		name(which, sizeof(which), swept[i].at);
		ktap_note("%s %s %lu.%lu", what, which, swept[i].median / SWEEP_OPERATIONS, swept[i].median % SWEEP_OPERATIONS);
	}
}

/*
 * Firmware calls that are answered and do nothing else: all of PSCI's, the architecture's, KVM's, and some that nobody knows.
 * Not among them are those that do more: CPU_SUSPEND, CPU_OFF, CPU_ON and AFFINITY_INFO of a vCPU that exists, what ends the VM,
 * PV_TIME_ST, random bits, and the host's time (VENDOR_PTP 0 and 1).
 */
static const struct {
	u32 function;
	u64 argument;
} calls[] = {
	{ 0x80000000, 0 }, /* SMCCC_VERSION */
	{ 0x80000001, 0x80008000 }, { 0x80000001, 0x80007fff }, { 0x80000001, 0x80003fff }, /* ARCH_FEATURES */
	{ 0x80000001, 0xc5000020 }, { 0x80000001, 0x80000001 },
	{ 0x80000002, 0 }, /* SOC_ID: not there */
	{ 0x84000000, 0 }, /* PSCI_VERSION */
	{ 0x84000003, 0xff000000 }, { 0xc4000003, 0xff00000000000000 }, /* CPU_ON of none */
	{ 0xc4000004, 0xff00000000000000 }, /* AFFINITY_INFO of none */
	{ 0x84000005, 0 }, /* MIGRATE: not there */
	{ 0x84000006, 0 }, /* MIGRATE_INFO_TYPE */
	{ 0x84000007, 0 }, /* MIGRATE_INFO_UP_CPU: not there */
	{ 0x8400000a, 0x84000001 }, { 0x8400000a, 0x8400000e }, { 0x8400000a, 0x80000000 }, { 0x8400000a, 0x84000015 }, /* FEATURES */
	{ 0x8400000b, 0 }, { 0x8400000c, 0 }, { 0x8400000d, 0 }, { 0x8400000e, 0 }, { 0xc400000e, 0 }, { 0x8400000f, 0 },
	{ 0x84000010, 0 }, { 0x84000011, 0 }, { 0x84000013, 0 }, { 0xc4000014, 0 }, { 0x8400001f, 0 },
	{ 0xc4000012, 1 }, /* SYSTEM_RESET2 of no known type */
	{ 0x84000015, 2 }, /* SYSTEM_OFF2, likewise */
	{ 0x84000050, 0 }, { 0x84000051, 0x84000053 }, { 0x84000052, 0 }, { 0xc4000053, 193 }, /* TRNG */
	{ 0x8600ff01, 0 }, { 0x86000000, 0 }, { 0x86000001, 2 }, { 0xc6000040, 0 }, /* VENDOR: UID, FEATURES, PTP of no counter */
	{ 0xc5000020, 0xc5000021 }, { 0xc5000022, 0 }, /* PV_TIME_FEATURES, and behind it */
	{ 0x80003ffe, 0 }, { 0x81000000, 0 }, { 0x82000000, 0 }, { 0x83000000, 0 }, { 0x87000000, 0 }, { 0xb2000000, 0 }, { 0, 0 },
	{ 0x95c1ba5e, 0 }, /* KVM's CPU_SUSPEND of PSCI 0.1: not there */
	{ 0xffffffff, 0 },
};

static void guest_smccc(u64 arg)
{
	sweep_count = ARRAY_SIZE(calls);
	for (u64 i = 0; i < ARRAY_SIZE(calls); i++)
		SWEEP_REPEAT(i, "mov x0, %[function]\n\tmov x1, %[argument]\n\thvc #0", [function] "r"((u64)calls[i].function),
			     [argument] "r"(calls[i].argument) : "x0", "x1", "x2", "x3", "memory");
}

static void name_smccc(char *buffer, size_t size, u64 at)
{
	snprintf(buffer, size, "%#x(%#lx)", calls[at].function, calls[at].argument);
}

TEST(smccc_dearest)
{
	sweep("smccc", guest_smccc, name_smccc);
}

/*
 * Registers of the distributor and of the vCPU's redistributor: one of each kind, of a range one that is in use, and of 64 bits
 * both ways.
 */
static const struct {
	u64 at;
	u32 size;
} registers[] = {
#define GICD(offset) { GUEST_GICD + offset, 4 }
#define GICR(offset) { GUEST_GICR + offset, 4 }
	/* CTLR, TYPER, IIDR, TYPER2, STATUSR, and a reserved one. */
	GICD(0), GICD(4), GICD(8), GICD(0xc), GICD(0x10), GICD(0x20),
	/* IGROUPR, ISENABLER, ICENABLER, ISPENDR, ICPENDR, ISACTIVER, ICACTIVER, IPRIORITYR, ITARGETSR, ICFGR, IGRPMODR, NSACR. */
	GICD(0x84), GICD(0x104), GICD(0x184), GICD(0x204), GICD(0x284), GICD(0x304), GICD(0x384), GICD(0x420), GICD(0x820),
	GICD(0xc08), GICD(0xd04), GICD(0xe08),
	/* IROUTER and PIDR2. */
	GICD(0x6100), { GUEST_GICD + 0x6100, 8 }, GICD(0xffe8),
	/* CTLR, IIDR, TYPER, STATUSR, WAKER, PROPBASER, PENDBASER, SYNCR, PIDR2. */
	GICR(0), GICR(4), GICR(8), { GUEST_GICR + 8, 8 }, GICR(0x10), GICR(0x14), GICR(0x70), { GUEST_GICR + 0x70, 8 }, GICR(0x78),
	{ GUEST_GICR + 0x78, 8 }, GICR(0xc0), GICR(0xffe8),
	/* Those of SGIs and PPIs. */
	GICR(0x10080), GICR(0x10100), GICR(0x10180), GICR(0x10200), GICR(0x10280), GICR(0x10300), GICR(0x10380), GICR(0x10400),
	GICR(0x10c00), GICR(0x10c04), GICR(0x10d00), GICR(0x10e00),
};

static void guest_gic_read(u64 arg)
{
	bench_gic_up(0, 1);
	sweep_count = ARRAY_SIZE(registers);
	for (u64 i = 0; i < ARRAY_SIZE(registers); i++) {
		if (registers[i].size == 8) {
			SWEEP_REPEAT(i, "ldr x0, [%[at]]", [at] "r"(registers[i].at) : "x0", "memory");
		} else {
			SWEEP_REPEAT(i, "ldr w0, [%[at]]", [at] "r"(registers[i].at) : "x0", "memory");
		}
	}
}

static void name_gic(char *buffer, size_t size, u64 at)
{
	bool redistributor = registers[at].at >= GUEST_GICR;

	snprintf(buffer, size, "%s+%#lx, %u bytes", redistributor ? "GICR" : "GICD",
		 registers[at].at - (redistributor ? GUEST_GICR : GUEST_GICD), registers[at].size);
}

TEST(gic_read_dearest)
{
	sweep("gic_read", guest_gic_read, name_gic);
}

/* Writes that change nothing: what is there, and to the registers that clear, zero. */
static u64 unchanged(u64 at, u32 size)
{
	u64 offset = at & 0xffff;

	if (offset >= 0x100 && offset < 0x400 && offset & 0x80)
		return 0;
	return size == 8 ? *(volatile u64 *)at : *(volatile u32 *)at;
}

static void guest_gic_write(u64 arg)
{
	bench_gic_up(0, 1);
	sweep_count = ARRAY_SIZE(registers);
	for (u64 i = 0; i < ARRAY_SIZE(registers); i++) {
		u64 value = unchanged(registers[i].at, registers[i].size);

		if (registers[i].size == 8) {
			SWEEP_REPEAT(i, "str %[value], [%[at]]", [at] "r"(registers[i].at), [value] "r"(value) : "memory");
		} else {
			SWEEP_REPEAT(i, "str %w[value], [%[at]]", [at] "r"(registers[i].at), [value] "r"(value) : "memory");
		}
	}
}

TEST(gic_write_dearest)
{
	sweep("gic_write", guest_gic_write, name_gic);
}
