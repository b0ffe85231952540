// SPDX-License-Identifier: GPL-2.0
/*
 * Sweeps: every operation of a kind, one by one, on one CPU, in the guest. Of each sweep two are reported: SWEEP_median, the
 * operation that is in the middle, and SWEEP_dearest, and which they are.
 */
#include "bench.h"
#include "msi.h"

#define SWEEP_MOST 160
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

/* Runs the VM's guest to its end; prints the operation in the middle and the dearest, whose names `name` writes into its buffer. */
static void sweep_vm(struct vm *vm, const char *what, void (*name)(char *buffer, size_t size, u64 at))
{
	static const char *const kinds[] = { "median", "dearest" };
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

static void sweep(const char *what, void (*guest)(u64), void (*name)(char *buffer, size_t size, u64 at))
{
	sweep_vm(bench_vm(.main = guest), what, name);
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

/*
 * System registers that a hypervisor may have to trap, each where it is emulated: all identification registers, those of caches, debug,
 * limited ordering regions, and the interrupt controller's. A hypervisor need not trap all of them. By their encodings
 * where the assembler has no name for them without an extension: S3_0_C10_C4 are LOR*_EL1.
 */
#define OF_CRM(X, CRM) \
	X("S3_0_C0_C" CRM "_0") X("S3_0_C0_C" CRM "_1") X("S3_0_C0_C" CRM "_2") X("S3_0_C0_C" CRM "_3") \
	X("S3_0_C0_C" CRM "_4") X("S3_0_C0_C" CRM "_5") X("S3_0_C0_C" CRM "_6") X("S3_0_C0_C" CRM "_7")
#define OF_BREAKPOINT(X, N) \
	X("DBGBVR" N "_EL1") X("DBGBCR" N "_EL1") X("DBGWVR" N "_EL1") X("DBGWCR" N "_EL1")
/* Both ways. */
#define READ_WRITE_REGISTERS(X) \
	X("ACTLR_EL1") X("CSSELR_EL1") X("MDSCR_EL1") X("MDCCINT_EL1") X("OSDLR_EL1") X("DBGCLAIMSET_EL1") \
	X("DBGCLAIMCLR_EL1") OF_BREAKPOINT(X, "0") OF_BREAKPOINT(X, "3") X("S3_0_C10_C4_0") X("S3_0_C10_C4_1") \
	X("S3_0_C10_C4_2") X("S3_0_C10_C4_3") X("ICC_SRE_EL1")
#define READ_REGISTERS(X) \
	X("MIDR_EL1") X("MPIDR_EL1") X("REVIDR_EL1") OF_CRM(X, "1") OF_CRM(X, "2") OF_CRM(X, "3") OF_CRM(X, "4") OF_CRM(X, "5") \
	OF_CRM(X, "6") OF_CRM(X, "7") X("AIDR_EL1") X("CTR_EL0") X("CLIDR_EL1") X("CCSIDR_EL1") X("MDRAR_EL1") X("OSLSR_EL1") \
	X("MDCCSR_EL0") X("S3_0_C10_C4_7") READ_WRITE_REGISTERS(X)
#define WRITE_REGISTERS(X) \
	X("OSLAR_EL1") X("ICC_SGI1R_EL1") X("ICC_ASGI1R_EL1") X("ICC_SGI0R_EL1") X("ICC_DIR_EL1") READ_WRITE_REGISTERS(X)

#define NAME_OF(NAME) NAME,
static const char *const read_registers[] = { READ_REGISTERS(NAME_OF) }, *const written_registers[] = { WRITE_REGISTERS(NAME_OF) };

static void guest_sysreg_read(u64 arg)
{
	u64 at = 0;

	bench_gic_up(0, 1);
#define READ_IT(NAME) SWEEP_REPEAT(at, "mrs x0, " NAME, : "x0") at++;
	READ_REGISTERS(READ_IT)
	sweep_count = at;
}

static void name_sysreg_read(char *buffer, size_t size, u64 at)
{
	snprintf(buffer, size, "%s", read_registers[at]);
}

TEST(sysreg_read_dearest)
{
	sweep("sysreg_read", guest_sysreg_read, name_sysreg_read);
}

/* Zero, which for all of them is nothing special: no debug exceptions, no interrupt, no lock. */
static void guest_sysreg_write(u64 arg)
{
	u64 at = 0;

	bench_gic_up(0, 1);
#define WRITE_IT(NAME) SWEEP_REPEAT(at, "msr " NAME ", xzr", : "memory") at++;
	WRITE_REGISTERS(WRITE_IT)
	sweep_count = at;
}

static void name_sysreg_write(char *buffer, size_t size, u64 at)
{
	snprintf(buffer, size, "%s", written_registers[at]);
}

TEST(sysreg_write_dearest)
{
	sweep("sysreg_write", guest_sysreg_write, name_sysreg_write);
}

/* The registers of an ITS that is enabled and has nothing to do, of 64 bits both ways. */
static const struct {
	u32 offset, size;
} its_registers[] = {
	/* CTLR, IIDR, TYPER, CBASER, CWRITER, CREADR. */
	{ 0x0, 4 }, { 0x4, 4 }, { 0x8, 4 }, { 0x8, 8 }, { 0x80, 4 }, { 0x80, 8 }, { 0x88, 4 }, { 0x88, 8 }, { 0x90, 4 }, { 0x90, 8 },
	/* BASER of devices, collections, and one without a table; a reserved one, PIDR4, PIDR2. */
	{ 0x100, 4 }, { 0x100, 8 }, { 0x108, 8 }, { 0x110, 8 }, { 0x40, 4 }, { 0xffd0, 4 }, { 0xffe8, 4 },
};

#define DEVICE 3
#define EVENT 5
static struct its_memory its_memory;

/* Interrupts stay masked: an LPI that is pending is never taken. */
static void its_up(void)
{
	bench_gic_up(0, 1);
	its_start(&its_memory, 16, ITS_DIRECT);
	for (u32 i = 0; i < 128; i++)
		lpi_configure(LPI(i), 0xa0, true);
	lpis_on(0);
	its_mapc(0, 0, true);
	its_mapd(DEVICE, its_memory.itt[0], ITT_BITS, true);
	its_mapd(DEVICE + 1, its_memory.itt[4], LPI_BITS, true);
	its_mapti(DEVICE, EVENT, LPI(0), 0);
}

static void guest_its_read(u64 arg)
{
	its_up();
	sweep_count = ARRAY_SIZE(its_registers);
	for (u64 i = 0; i < ARRAY_SIZE(its_registers); i++) {
		u64 at = GUEST_ITS + its_registers[i].offset;

		if (its_registers[i].size == 8) {
			SWEEP_REPEAT(i, "ldr x0, [%[at]]", [at] "r"(at) : "x0", "memory");
		} else {
			SWEEP_REPEAT(i, "ldr w0, [%[at]]", [at] "r"(at) : "x0", "memory");
		}
	}
}

static void name_its(char *buffer, size_t size, u64 at)
{
	snprintf(buffer, size, "GITS+%#x, %u bytes", its_registers[at].offset, its_registers[at].size);
}

static void sweep_its(const char *what, void (*guest)(u64), void (*name)(char *buffer, size_t size, u64 at))
{
	struct vm *vm = bench_vm(.main = guest);

	its_create(vm, GUEST_ITS);
	sweep_vm(vm, what, name);
}

TEST(its_read_dearest)
{
	sweep_its("its_read", guest_its_read, name_its);
}

/*
 * Commands, each with the store to GITS_CWRITER and a read of GITS_CREADR, which finds it done. All of them leave the tables as they
 * are. INT and CLEAR come together: otherwise the LPI would be pending already from the second INT on. So do DISCARD and MAPTI.
 */
#define ITS_COMMANDS(X)                                                     \
	X("MAPD", its_mapd(DEVICE, its_memory.itt[1], ITT_BITS, true))      \
	X("MAPC", its_mapc(1, 0, true))                                     \
	X("MAPTI", its_mapti(DEVICE, EVENT, LPI(0), 0))                     \
	X("MAPI", its_mapi(DEVICE + 1, LPI(1), 0))                              \
	X("MOVI", its_movi(DEVICE, EVENT, 0))                               \
	X("INT and CLEAR", its_int(DEVICE, EVENT); its_clear(DEVICE, EVENT)) \
	X("INV", its_inv(DEVICE, EVENT))                                    \
	X("INVALL", its_invall(0))                                          \
	X("SYNC", its_sync(0))                                              \
	X("MOVALL", its_movall(0, 0))                                       \
	X("DISCARD and MAPTI", its_discard(DEVICE, EVENT); its_mapti(DEVICE, EVENT, LPI(0), 0))

#define COMMAND_OF(NAME, ...) NAME,
static const char *const its_commands[] = { ITS_COMMANDS(COMMAND_OF) };

static void guest_its_command(u64 arg)
{
	u64 at = 0;

	its_up();
#define RUN_IT(NAME, ...)                                                        \
	BENCH_EACH(round, SWEEP_ROUNDS) {                                        \
		u64 before;                                                      \
                                                                                 \
		its_mapti(DEVICE, EVENT, LPI(0), 0);                             \
		before = guest_now();                                            \
		for (u32 i = 0; i < SWEEP_OPERATIONS; i++) {                     \
			__VA_ARGS__;                                             \
		}                                                                \
		sweep_ticks[at][round] = guest_now() - before;                   \
	}                                                                        \
	at++;
	ITS_COMMANDS(RUN_IT)
	sweep_count = at;
}

static void name_its_command(char *buffer, size_t size, u64 at)
{
	snprintf(buffer, size, "%s", its_commands[at]);
}

TEST(its_command_dearest)
{
	sweep_its("its_command", guest_its_command, name_its_command);
}
