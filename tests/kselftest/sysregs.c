// SPDX-License-Identifier: GPL-2.0
/* System registers as a guest finds them: identification, what is hidden is undefined, what is ignored stays harmless. */
#include "gic.h"
#include "vm.h"

#define READS(reg) GUEST_PROBE("mrs x9, " STRINGIFY(reg), : : : "x9")
#define WRITES(reg) GUEST_PROBE("msr " STRINGIFY(reg) ", xzr")

#define RUN(name, guest, ...)                                                        \
	TEST(name)                                                                   \
	{                                                                            \
		struct vm *vm = vm_create(.main = guest, .gic = true, ##__VA_ARGS__); \
		vcpu_done(&vm->vcpus[0]);                                            \
	}

static void undefined(const char *what, u64 esr)
{
	if (!esr || ESR_EC(esr) != EC_UNKNOWN) {
		guest_call(GUEST_CMD_NOTE, __FILE__, __LINE__, what, esr, 0);
		GUEST_FAIL("that should be undefined: esr", esr, 0);
	}
}

static void allowed(const char *what, u64 esr)
{
	if (esr) {
		guest_call(GUEST_CMD_NOTE, __FILE__, __LINE__, what, esr, 0);
		GUEST_FAIL("that should be allowed: esr", esr, 0);
	}
}

#define UNDEF(reg) undefined(#reg, READS(reg)); undefined(#reg, WRITES(reg))
#define READABLE(reg) allowed(#reg, READS(reg))

/* The whole identification space reads without a fault, and cannot be written. */
static void guest_id_space(u64 arg)
{
#define ID8(crm) \
	READABLE(S3_0_C0_##crm##_0); READABLE(S3_0_C0_##crm##_1); READABLE(S3_0_C0_##crm##_2); READABLE(S3_0_C0_##crm##_3); \
	READABLE(S3_0_C0_##crm##_4); READABLE(S3_0_C0_##crm##_5); READABLE(S3_0_C0_##crm##_6); READABLE(S3_0_C0_##crm##_7)
	ID8(C1);
	ID8(C2);
	ID8(C3);
	ID8(C4);
	ID8(C5);
	ID8(C6);
	ID8(C7);
	READABLE(midr_el1);
	READABLE(mpidr_el1);
	READABLE(revidr_el1);
	READABLE(ctr_el0);
	READABLE(dczid_el0);
	undefined("write ID_AA64PFR0_EL1", WRITES(S3_0_C0_C4_0));
	undefined("write MIDR_EL1", WRITES(S3_0_C0_C0_0));
	undefined("write CTR_EL0", WRITES(S3_3_C0_C0_1));
}
RUN(identification_space, guest_id_space)

static void guest_identity(u64 arg)
{
	u64 pfr0 = read_sysreg(id_aa64pfr0_el1), mmfr0 = read_sysreg(id_aa64mmfr0_el1), dfr0 = read_sysreg(id_aa64dfr0_el1);
	u64 ctr = read_sysreg(ctr_el0);

	GUEST_CHECK(FIELD(pfr0, 0) >= 1 && FIELD(pfr0, 4) >= 1);
	GUEST_CHECK(FIELD(pfr0, 24) == 1 || FIELD(pfr0, 24) == 3); /* the GIC's system registers */
	GUEST_CHECK_EQ(FIELD(pfr0, 32), 0); /* SVE: not asked for */
	GUEST_CHECK(FIELD(pfr0, 16) != 0xf); /* FP is there */
	GUEST_CHECK(FIELD(mmfr0, 28) != 0xf); /* 4 KiB pages */
	GUEST_CHECK(FIELD(dfr0, 0) >= 6); /* debug architecture */
	GUEST_CHECK_EQ(FIELD(dfr0, 8), 0); /* no PMU: not asked for */
	GUEST_CHECK_EQ(FIELD(dfr0, 32), 0); /* no statistical profiling */
	GUEST_CHECK_EQ(FIELD(dfr0, 44), 0); /* no trace buffer */
	GUEST_CHECK_EQ(FIELD(read_sysreg(id_aa64pfr1_el1), 24), 0); /* no SME */
	GUEST_CHECK_EQ(FIELD(read_sysreg(id_aa64pfr1_el1), 8), 0); /* no MTE */
	GUEST_CHECK_EQ(FIELD(pfr0, 44), 0); /* no activity monitors */
	GUEST_CHECK_EQ(FIELD(pfr0, 40), 0); /* no MPAM */
	GUEST_CHECK_EQ(FIELD(pfr0, 52), 0); /* no realms */
	GUEST_CHECK_EQ(ctr >> 31, 1);
	GUEST_CHECK_EQ(read_sysreg(mpidr_el1) & 0xff00ffffff, 0);
	GUEST_CHECK_EQ(read_sysreg(mpidr_el1) >> 31 & 1, 1);
	GUEST_CHECK_EQ(read_sysreg(CurrentEL), 4);
}
RUN(identity, guest_identity)

/* What the identification registers do not announce is undefined. */
static void guest_hidden(u64 arg)
{
	/* SVE and SME. The guest's own traps would come first: off. */
	write_sysreg(read_sysreg(cpacr_el1) | 3 << 16 | 3 << 24, cpacr_el1);
	isb();
	UNDEF(S3_0_C1_C2_0); /* ZCR_EL1 */
	UNDEF(S3_0_C1_C2_6); /* SMCR_EL1 */
	UNDEF(S3_0_C1_C2_4); /* SMPRI_EL1 */
	GUEST_CHECK(READS(S3_1_C0_C0_6)); /* SMIDR_EL1: undefined, or, with FEAT_IDST, a trapped access */
	UNDEF(S3_3_C13_C0_5); /* TPIDR2_EL0 */
	undefined("SVCR", READS(S3_3_C4_C2_2));
	undefined("RDVL", GUEST_PROBE(".inst 0x04bf5020", : : : "x0")); /* rdvl x0, #1 */
	undefined("SMSTART", GUEST_PROBE(".inst 0xd503477f"));
	/* MTE */
	UNDEF(S3_0_C5_C6_0); /* TFSR_EL1 */
	UNDEF(S3_0_C1_C0_5); /* RGSR_EL1 */
	UNDEF(S3_0_C1_C0_6); /* GCR_EL1 */
	/* PMU */
	UNDEF(pmcr_el0);
	UNDEF(pmcntenset_el0);
	UNDEF(pmccntr_el0);
	UNDEF(pmselr_el0);
	UNDEF(pmuserenr_el0);
	UNDEF(S3_0_C9_C14_1); /* PMINTENSET_EL1 */
	UNDEF(S3_3_C14_C8_0); /* PMEVCNTR0_EL0 */
	/* Statistical profiling, trace buffer, trace unit, activity monitors */
	UNDEF(S3_0_C9_C9_0); /* PMSCR_EL1 */
	UNDEF(S3_0_C9_C10_0); /* PMBLIMITR_EL1 */
	UNDEF(S3_0_C9_C11_0); /* TRBLIMITR_EL1 */
	undefined("AMCR_EL0", READS(S3_3_C13_C2_0));
	undefined("AMEVCNTR00_EL0", READS(S3_3_C13_C4_0));
	/* EL2 and EL3 */
	UNDEF(S3_4_C1_C1_0); /* HCR_EL2 */
	UNDEF(S3_4_C2_C1_0); /* VTTBR_EL2 */
	UNDEF(S3_4_C12_C0_0); /* VBAR_EL2 */
	UNDEF(S3_5_C1_C0_0); /* SCTLR_EL12 */
	UNDEF(S3_6_C1_C1_0); /* SCR_EL3 */
	UNDEF(S3_4_C12_C11_0); /* ICH_HCR_EL2 */
	UNDEF(S3_4_C14_C0_3); /* CNTVOFF_EL2 */
	undefined("ERET to EL2", GUEST_PROBE("msr SP_EL1, xzr"));
	/* Nothing at all, and implementation defined */
	UNDEF(S3_7_C0_C0_0);
	UNDEF(S2_2_C7_C7_7);
	UNDEF(S3_0_C15_C2_0);
	UNDEF(S3_1_C15_C0_1);
	undefined("SYS of no meaning", GUEST_PROBE("sys #6, c7, c1, #7, xzr"));
}
RUN(hidden_features, guest_hidden)

/* A feature that is announced works; where it is not, it is undefined. */
static void guest_consistent(u64 arg)
{
	u64 pfr0 = read_sysreg(id_aa64pfr0_el1), mmfr1 = read_sysreg(id_aa64mmfr1_el1), mmfr2 = read_sysreg(id_aa64mmfr2_el1);
	u64 isar0 = read_sysreg(id_aa64isar0_el1), mmfr3 = read_sysreg(S3_0_C0_C7_3), esr;

#define MATCH(name, announced, probe)                            \
	esr = probe;                                             \
	if (announced)                                           \
		allowed(name, esr);                              \
	else                                                     \
		undefined(name, esr)
	MATCH("RAS", FIELD(pfr0, 28) != 0, READS(S3_0_C5_C3_0)); /* ERRIDR_EL1 */
	MATCH("RNDR", FIELD(isar0, 60) != 0, READS(S3_3_C2_C4_0));
	MATCH("PAN", FIELD(mmfr1, 20) != 0, READS(S3_0_C4_C2_3));
	MATCH("UAO", FIELD(mmfr2, 4) != 0, READS(S3_0_C4_C2_4));
	MATCH("DIT", FIELD(pfr0, 48) != 0, READS(S3_3_C4_C2_5));
	MATCH("LORegions", FIELD(mmfr1, 16) != 0, READS(S3_0_C10_C4_7)); /* LORID_EL1 */
	MATCH("TCR2", FIELD(mmfr3, 0) != 0, READS(S3_0_C2_C0_3));
	MATCH("PIE", FIELD(mmfr3, 8) != 0, READS(S3_0_C10_C2_3)); /* PIR_EL1 */
	MATCH("SSBS", FIELD(read_sysreg(id_aa64pfr1_el1), 4) >= 2, READS(S3_3_C4_C2_6));
	MATCH("CSV2_2", FIELD(pfr0, 56) >= 2, READS(S3_3_C13_C0_7)); /* SCXTNUM_EL0 */
	MATCH("atomics", FIELD(isar0, 20) != 0, GUEST_PROBE(".arch armv8.1-a\n\tldadd x9, x9, [sp]", : : : "x9", "memory"));
	MATCH("CRC32", FIELD(isar0, 16) != 0, GUEST_PROBE(".arch armv8-a+crc\n\tcrc32b w9, w9, w9", : : : "x9"));
	MATCH("GCS", FIELD(read_sysreg(id_aa64pfr1_el1), 44) != 0, READS(S3_0_C2_C5_0));
	MATCH("FPMR", FIELD(read_sysreg(S3_0_C0_C4_2), 32) != 0, READS(S3_3_C4_C4_2));
}
RUN(announced_is_there, guest_consistent)

/* Caches: the description is sound, and maintenance by set and way is harmless. */
static void guest_caches(u64 arg)
{
	u64 clidr = read_sysreg(clidr_el1);

	for (u64 level = 0; level < 7; level++) {
		u64 type = clidr >> (3 * level) & 7;

		if (!type)
			break;
		write_sysreg(level << 1, csselr_el1);
		isb();
		READABLE(ccsidr_el1);
		GUEST_CHECK_EQ(read_sysreg(csselr_el1), level << 1);
		__asm__ volatile("dc csw, %0; dc cisw, %0; dc isw, %0" : : "r"(level << 1) : "memory");
	}
	__asm__ volatile("dc cvau, %0; dc civac, %0; ic ivau, %0; ic iallu; ic ialluis; dsb sy; isb" : : "r"(guest_page_table) : "memory");
	GUEST_CHECK_EQ(read_sysreg(dczid_el0) & 0x10, 0);
	__asm__ volatile("dc zva, %0" : : "r"(guest_page_table + 256) : "memory"); /* not in use */
}
RUN(caches, guest_caches)

/* Registers that a guest writes freely keep what it wrote. */
static void guest_writable(u64 arg)
{
#define KEEPS(reg, v)                                   \
	do {                                            \
		u64 old_ = read_sysreg(reg);            \
		write_sysreg(v, reg);                   \
		isb();                                  \
		GUEST_CHECK_EQ(read_sysreg(reg), v);    \
		write_sysreg(old_, reg);                \
		isb();                                  \
	} while (0)
	KEEPS(tpidr_el0, 0x123456789abcdef0);
	KEEPS(tpidrro_el0, 0x123456789abcdef0);
	KEEPS(far_el1, 0x123456789abcdef0);
	KEEPS(esr_el1, 0x12345678);
	KEEPS(elr_el1, 0x40000000);
	KEEPS(spsr_el1, 0x3c5);
	KEEPS(ttbr1_el1, 0x0012000040000000);
	KEEPS(vbar_el1, 0x40008000);
	KEEPS(mair_el1, 0x4404ff04ff04ff04);
	KEEPS(contextidr_el1, 0x87654321);
	KEEPS(cntkctl_el1, 0x3);
	KEEPS(sp_el0, 0x123456789abcdef0);
	KEEPS(csselr_el1, 0x2);
	/* The A bit of SCTLR is the guest's: an unaligned access faults by its own choice. */
	GUEST_CHECK_EQ(GUEST_PROBE("ldr x9, [%0]", : : "r"((u64)guest_page_table + 1) : "x9"), 0);
	write_sysreg(read_sysreg(sctlr_el1) | 2, sctlr_el1);
	isb();
	GUEST_CHECK_EQ(ESR_EC(GUEST_PROBE("ldr x9, [%0]", : : "r"((u64)guest_page_table + 1) : "x9")), EC_DABT_CUR);
	write_sysreg(read_sysreg(sctlr_el1) & ~2UL, sctlr_el1);
	isb();
}
RUN(writable_registers, guest_writable)

/* Translation changes of the guest's own take effect; its own faults are its own. */
static void guest_own_faults(u64 arg)
{
	u64 far = 300UL << 30, esr;

	guest_page_table[300] = 0;
	dsb(ish);
	__asm__ volatile("tlbi vmalle1; dsb nsh; isb");
	esr = GUEST_PROBE("ldr x9, [%0]", : : "r"(far + 8) : "x9");
	GUEST_CHECK_EQ(ESR_EC(esr), EC_DABT_CUR);
	GUEST_CHECK_EQ(esr & 0x3f, 5); /* translation, level 1 */
	GUEST_CHECK_EQ(guest_self()->probe_far, far + 8);
	/* To the memory of the guest, read-only. */
	guest_page_table[300] = (guest_page_table[1] & ~(0x3ffUL << 30)) | 1UL << 30 | 1 << 7;
	dsb(ish);
	isb();
	GUEST_CHECK_EQ(GUEST_PROBE("ldr x9, [%0]", : : "r"(far) : "x9"), 0);
	esr = GUEST_PROBE("str xzr, [%0]", : : "r"(far) : "memory");
	GUEST_CHECK_EQ(ESR_EC(esr), EC_DABT_CUR);
	GUEST_CHECK_EQ(esr & 0x3f, 0xd); /* permission, level 1 */
	GUEST_CHECK_EQ(esr >> 6 & 1, 1);
	/* AT says the same. */
	__asm__ volatile("at s1e1r, %0; isb" : : "r"(far));
	GUEST_CHECK_EQ(read_sysreg(par_el1) & 1, 0);
	GUEST_CHECK_EQ(read_sysreg(par_el1) & 0xfffffffff000, 1UL << 30);
	__asm__ volatile("at s1e1w, %0; isb" : : "r"(far));
	GUEST_CHECK_EQ(read_sysreg(par_el1) & 1, 1);
}
RUN(own_translation_faults, guest_own_faults)

/* A page table that lies where nothing is: a synchronous external abort on the walk, which says at which level. */
#define HOLE 0x0b000000UL

static u64 level_2_table[512] __attribute__((aligned(4096)));

static void expect_walk_abort(u64 address, u64 level)
{
	u64 esr;

	dsb(ish);
	__asm__ volatile("tlbi vmalle1; dsb nsh; isb");
	esr = GUEST_PROBE("ldr x9, [%0]", : : "r"(address) : "x9");
	GUEST_CHECK_EQ(ESR_EC(esr), EC_DABT_CUR);
	GUEST_CHECK_EQ(esr & 0x3f, 0x14 | level); /* external abort on a walk */
	GUEST_CHECK_EQ(guest_self()->probe_far, address);
}

static void guest_walk_outside(u64 arg)
{
	u64 tcr = read_sysreg(tcr_el1) & ~(1UL << 23 | 0x3fUL << 16 | 3UL << 30);
	u64 upper = ~0UL << 39;

	guest_page_table[301] = HOLE | 3;
	expect_walk_abort(301UL << 30, 2);
	guest_page_table[301] = (u64)level_2_table | 3;
	level_2_table[5] = HOLE | 3;
	expect_walk_abort(301UL << 30 | 5UL << 21 | 0x8, 3);
	/* The upper half, first with 39 bits and then with 48. */
	write_sysreg(HOLE, ttbr1_el1);
	write_sysreg(tcr | 25UL << 16 | 2UL << 30, tcr_el1);
	expect_walk_abort(upper | 0x10, 1);
	write_sysreg(tcr | 16UL << 16 | 2UL << 30, tcr_el1);
	expect_walk_abort(upper | 0x18, 0);
	write_sysreg(guest_page_table, ttbr1_el1);
	guest_page_table[511] = HOLE | 3;
	expect_walk_abort(upper | 0x20, 1);
}
RUN(table_walk_outside_memory, guest_walk_outside)

/* EL0 of the guest: its SVC and its faults go to the guest's EL1. */
static u64 svc_seen;

static void on_svc(struct guest_regs *regs)
{
	svc_seen = regs->x[0];
	regs->pstate = 0x3c5;
	regs->pc = regs->x[1];
}

extern const u8 el0_code[], el0_back[];
__asm__(".pushsection .text\n"
	".global el0_code, el0_enter\n"
	"el0_enter:\n" /* x0: target; returns when the SVC handler comes back to x1 at EL1 */
	"	stp	x29, x30, [sp, #-16]!\n"
	"	msr	elr_el1, x0\n"
	"	mov	x2, #0x3c0\n"
	"	msr	spsr_el1, x2\n"
	"	adr	x1, 1f\n"
	"	eret\n"
	"1:	ldp	x29, x30, [sp], #16\n"
	"	ret\n"
	"el0_code:\n"
	"	mov	x0, #77\n"
	"	svc	#0\n"
	"	b	.\n"
	".popsection\n");
void el0_enter(u64 target);

static void guest_el0(u64 arg)
{
	/* The code, once more, where EL0 may execute. */
	guest_page_table[302] = (guest_page_table[1] & ~(0x3ffUL << 30)) | 1UL << 30 | 1 << 6 | 1 << 7;
	dsb(ish);
	isb();
	guest_sync_handlers[EC_SVC64] = on_svc;
	el0_enter((301UL + 1) * (1UL << 30) + ((u64)el0_code & 0x3fffffff));
	GUEST_CHECK_EQ(svc_seen, 77);
}
RUN(user_mode, guest_el0)

/* WFI and WFE with something to wait for end; WFE never holds a CPU for good. */
static void guest_wfe(u64 arg)
{
	for (int i = 0; i < 1000; i++)
		__asm__ volatile("sevl; wfe");
	/* No event at all: the stream of the counter's bit ends it. */
	write_sysreg(1 << 2 | 4 << 4, cntkctl_el1);
	isb();
	for (int i = 0; i < 20; i++)
		wfe();
}
RUN(wfe, guest_wfe)

/* The OS lock and the double lock are there and do nothing to the machine. */
static void guest_os_lock(u64 arg)
{
	READABLE(oslsr_el1);
	write_sysreg(1, oslar_el1);
	isb();
	GUEST_CHECK_EQ(read_sysreg(oslsr_el1) >> 1 & 1, 1);
	write_sysreg(0, oslar_el1);
	isb();
	GUEST_CHECK_EQ(read_sysreg(oslsr_el1) >> 1 & 1, 0);
	WRITES(S2_0_C1_C3_4); /* OSDLR_EL1 */
	READABLE(S2_0_C1_C0_0); /* MDRAR_EL1 */
}
RUN(os_lock, guest_os_lock)
