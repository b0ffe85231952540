// SPDX-License-Identifier: GPL-2.0
/*
 * Nobody sees another's registers: FP/SIMD, pointer-authentication keys and EL1 state, between a guest and the host
 * thread that runs it, and between guests that share a CPU.
 */
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pauth.h"
#include "vm.h"

struct vectors {
	u64 v[32][2];
	u64 fpcr, fpsr;
} __attribute__((aligned(16)));

/* v0-v31, FPCR and FPSR from and to memory; nothing else here uses them. */
void vectors_load(const struct vectors *);
void vectors_store(struct vectors *);

#define PAIRS(insn)                                                                                                        \
	insn "	q0, q1, [x0]\n" insn "	q2, q3, [x0, #32]\n" insn "	q4, q5, [x0, #64]\n" insn "	q6, q7, [x0, #96]\n"       \
	insn "	q8, q9, [x0, #128]\n" insn "	q10, q11, [x0, #160]\n" insn "	q12, q13, [x0, #192]\n" insn "	q14, q15, [x0, #224]\n" \
	insn "	q16, q17, [x0, #256]\n" insn "	q18, q19, [x0, #288]\n" insn "	q20, q21, [x0, #320]\n" insn "	q22, q23, [x0, #352]\n" \
	insn "	q24, q25, [x0, #384]\n" insn "	q26, q27, [x0, #416]\n" insn "	q28, q29, [x0, #448]\n" insn "	q30, q31, [x0, #480]\n"

__asm__(".pushsection .text\n"
	".arch armv8.3-a\n"
	".global vectors_load, vectors_store, run_with_vectors\n"
	"vectors_load:\n"
	"	add	x3, x0, #512\n"
	"	ldp	x1, x2, [x3]\n"
	"	msr	fpcr, x1\n"
	"	msr	fpsr, x2\n" PAIRS("ldp")
	"	ret\n"
	"vectors_store:\n" PAIRS("stp")
	"	mrs	x1, fpcr\n"
	"	mrs	x2, fpsr\n"
	"	add	x3, x0, #512\n"
	"	stp	x1, x2, [x3]\n"
	"	ret\n"
	/* long run_with_vectors(int fd, struct vectors *v): KVM_RUN between a load and a store, with nothing in between. */
	"run_with_vectors:\n"
	"	stp	x29, x30, [sp, #-48]!\n"
	"	stp	x19, x20, [sp, #16]\n"
	"	mov	x19, x0\n"
	"	mov	x20, x1\n"
	"	mov	x0, x1\n"
	"	bl	vectors_load\n"
	"	mov	x0, x19\n"
	"	mov	x1, #0xae80\n" /* KVM_RUN */
	"	mov	x2, #0\n"
	"	mov	x8, #29\n" /* ioctl */
	"	svc	#0\n"
	"	mov	x19, x0\n"
	"	mov	x0, x20\n"
	"	bl	vectors_store\n"
	"	mov	x0, x19\n"
	"	ldp	x19, x20, [sp, #16]\n"
	"	ldp	x29, x30, [sp], #48\n"
	"	ret\n"
	".popsection\n");

long run_with_vectors(int fd, struct vectors *v);

static void fill(struct vectors *v, u64 seed)
{
	for (u64 i = 0; i < 32; i++) {
		v->v[i][0] = seed * 0x0101010101010101 + i;
		v->v[i][1] = ~(seed * 0x0101010101010101 + i * 3);
	}
	v->fpcr = seed & 1 ? 0x00400000 : 0x00800000; /* a rounding mode */
	v->fpsr = seed & 1 ? 0x08000001 : 0x00000010;
}

static struct vectors guest_vectors_in[4], guest_vectors_out[4];

static u64 differs(const struct vectors *a, const struct vectors *b)
{
	const u64 *x = (const u64 *)a, *y = (const u64 *)b;

	for (u64 i = 0; i < 66; i++)
		if (x[i] != y[i])
			return i + 1;
	return 0;
}

/* Leaves the guest, and comes back: an exit to userspace, one that the kernel answers, or a plain interruption. */
static void leave(u64 i)
{
	if (i % 3 == 0)
		GUEST_SYNC(1);
	else if (i % 3 == 1)
		guest_hvc(0x80000000, 0, 0, 0);
	else
		guest_delay_us(200);
}

/* Holds its vectors through userspace exits, exits answered in the kernel, and plain interruptions. */
static void guest_hold(u64 seed)
{
	struct vectors *in = &guest_vectors_in[seed & 3], *out = &guest_vectors_out[seed & 3];

	fill(in, seed);
	vectors_load(in);
	for (u64 i = 0; i < 40; i++) {
		u64 wrong;

		if (i % 4 == 3)
			(void)*(volatile u8 *)(GUEST_RAM + 0x200000 + i * 4096); /* a page of its own: a stage-2 fault */
		else
			leave(i % 4);
		vectors_store(out);
		wrong = differs(in, out);
		if (wrong)
			GUEST_FAIL("vector state changed: word, value", wrong - 1, ((u64 *)out)[wrong - 1]);
		fill(in, seed + i * 8);
		vectors_load(in);
	}
}

static void set_arg(struct vcpu *vcpu, u64 arg)
{
	((struct guest_cpu *)vm_host(vcpu->vm, (u64)vcpu->cpu))->arg = arg;
}

TEST(vectors_guest_and_host)
{
	struct vm *vm = vm_create(.main = guest_hold);
	struct vcpu *vcpu = &vm->vcpus[0];
	struct vectors mine, before;
	u64 seed = 0x77;

	set_arg(vcpu, 0x31);
	for (;;) {
		struct guest_message m;
		u64 wrong;
		long r;

		fill(&mine, seed);
		before = mine;
		r = run_with_vectors(vcpu->fd, &mine);
		wrong = differs(&before, &mine);
		if (wrong)
			FAIL("the host's vector state changed: word %lu is %#lx, was %#lx", wrong - 1, ((u64 *)&mine)[wrong - 1],
			     ((u64 *)&before)[wrong - 1]);
		seed++;
		if (r == -EINTR)
			continue;
		CHECK_EQ(r, 0);
		CHECK(vcpu_message(vcpu, &m));
		if (m.command == GUEST_CMD_FAIL)
			FAIL("guest: %s %#lx %#lx", m.text, m.a, m.b);
		if (m.command == GUEST_CMD_DONE)
			break;
		/* What the VMM reads of the guest is the guest's. */
		for (u64 i = 0; i < 32; i++) {
			u64 v[2];

			CHECK_OK(reg_try_get(vcpu, CORE_REG(fp_regs.vregs[0]) + 4 * i, v));
			CHECK_EQ(v[0], VM_GLOBAL(vm, guest_vectors_in[1].v[i][0]));
		}
	}
}

static void *hold_thread(void *arg)
{
	struct vcpu *vcpu = arg;

	pin_to_cpu(0);
	while (vcpu_next(vcpu).command != GUEST_CMD_DONE)
		sched_yield();
	return NULL;
}

/* Each guest to its end in a thread of its own, all on one CPU. */
static void run_beside(struct vm **vm, u64 n)
{
	pthread_t threads[4];

	CHECK(n <= 4);
	for (u64 i = 0; i < n; i++)
		CHECK(pthread_create(&threads[i], NULL, hold_thread, &vm[i]->vcpus[0]) == 0);
	for (u64 i = 0; i < n; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
}

TEST(vectors_between_guests)
{
	struct vm *vm[4];

	for (u64 i = 0; i < 4; i++) {
		vm[i] = vm_create(.main = guest_hold);
		set_arg(&vm[i]->vcpus[0], 0x40 + i);
	}
	run_beside(vm, 4);
}

/* A fresh vCPU starts with zeros, whatever was in the CPU before. */
static void guest_fresh(u64 arg)
{
	vectors_store(&guest_vectors_out[0]);
}

TEST(vectors_of_a_fresh_vcpu)
{
	struct vm *vm = vm_create(.main = guest_fresh);
	struct vectors mine;

	fill(&mine, 0x99);
	CHECK_EQ(run_with_vectors(vm->vcpus[0].fd, &mine), 0);
	for (u64 i = 0; i < 32; i++) {
		EXPECT_EQ(VM_GLOBAL(vm, guest_vectors_out[0].v[i][0]), 0);
		EXPECT_EQ(VM_GLOBAL(vm, guest_vectors_out[0].v[i][1]), 0);
	}
	EXPECT_EQ(VM_GLOBAL(vm, guest_vectors_out[0].fpcr), 0);
	EXPECT_EQ(VM_GLOBAL(vm, guest_vectors_out[0].fpsr), 0);
}

/* CPACR_EL1 is the guest's: with FP trapped by the guest itself the exception is the guest's too. */
static void guest_trapped_fp(u64 arg)
{
	write_sysreg(0, cpacr_el1);
	isb();
	GUEST_CHECK_EQ(ESR_EC(GUEST_PROBE(".arch armv8-a\n\tfmov d0, xzr")), EC_FP);
	write_sysreg(3 << 20, cpacr_el1);
	isb();
	GUEST_CHECK_EQ(GUEST_PROBE(".arch armv8-a\n\tfmov d0, xzr"), 0);
}

TEST(guest_traps_its_own_fp)
{
	struct vm *vm = vm_create(.main = guest_trapped_fp);

	vcpu_done(&vm->vcpus[0]);
}

/* ---- Pointer authentication ---- */

static u64 signatures[5];

static void guest_keys(u64 base)
{
	u64 now[5];

	ALL_KEYS(WRITE_KEY, base);
	pauth_enable();
	SIGN(signatures);
	for (u64 i = 0; i < 30; i++) {
		leave(i);
		ALL_KEYS(CHECK_KEY, base);
		SIGN(now);
		for (u32 k = 0; k < 5; k++)
			GUEST_CHECK_EQ(now[k], signatures[k]);
	}
}

static bool host_has_pauth(void)
{
	return cap(KVM_CAP_ARM_PTRAUTH_ADDRESS) > 0;
}

TEST(keys_guest_and_host)
{
	u64 mine[5], now[5];
	struct vm *vm;
	struct guest_message m;

	if (!host_has_pauth())
		SKIP("no pointer authentication");
	vm = vm_create(.main = guest_keys, .features = PTRAUTH);
	set_arg(&vm->vcpus[0], 0x1234567812340000);
	SIGN(mine);
	while ((m = vcpu_next(&vm->vcpus[0])).command == GUEST_CMD_SYNC) {
		SIGN(now);
		for (u32 k = 0; k < 5; k++)
			CHECK_EQ(now[k], mine[k]);
	}
	for (u32 k = 0; k < 5; k++)
		if (VM_GLOBAL(vm, signatures[k]) == mine[k])
			FAIL("key %u signs alike in the guest and in the host: %#lx", k, mine[k]);
}

TEST(keys_between_guests)
{
	struct vm *vm[3];

	if (!host_has_pauth())
		SKIP("no pointer authentication");
	for (u64 i = 0; i < 3; i++) {
		vm[i] = vm_create(.main = guest_keys, .features = PTRAUTH);
		set_arg(&vm[i]->vcpus[0], 0x1111111111110000 * (i + 1));
	}
	run_beside(vm, 3);
	for (u32 k = 0; k < 5; k++)
		CHECK(VM_GLOBAL(vm[0], signatures[k]) != VM_GLOBAL(vm[1], signatures[k]));
}

/* A guest that was not given pointer authentication does not see that there is any, and finds no keys. */
static void guest_without_pauth(u64 arg)
{
	u64 isar1 = read_sysreg(id_aa64isar1_el1), isar2 = read_sysreg(S3_0_C0_C6_2);

	GUEST_CHECK_EQ(isar1 >> 4 & 0xff, 0); /* APA, API */
	GUEST_CHECK_EQ(isar1 >> 24 & 0xff, 0); /* GPA, GPI */
	GUEST_CHECK_EQ(isar2 >> 8 & 0xff, 0); /* GPA3, APA3 */
	GUEST_CHECK_EQ(ESR_EC(GUEST_PROBE("mrs x9, S3_0_C2_C1_0", : : : "x9")), EC_UNKNOWN);
	GUEST_CHECK_EQ(ESR_EC(GUEST_PROBE("msr S3_0_C2_C3_1, xzr")), EC_UNKNOWN);
}

TEST(keys_not_given)
{
	u64 mine[5], now[5];
	struct vm *vm;

	if (!host_has_pauth())
		SKIP("no pointer authentication");
	SIGN(mine);
	vm = vm_create(.main = guest_without_pauth);
	vcpu_done(&vm->vcpus[0]);
	SIGN(now);
	for (u32 k = 0; k < 5; k++)
		CHECK_EQ(now[k], mine[k]);
}

static u64 late_word;

/*
 * Registers of features that came late: each guest keeps its own, and they do what they are for. The permission of one mapping is read
 * only for one guest, writable for the other, by PIR_EL1 alone, which TCR2_EL1.PIE makes the CPU look at.
 */
static void guest_late_features(u64 seed)
{
	u64 mmfr3 = read_sysreg(S3_0_C0_C7_3), pfr2 = read_sysreg(S3_0_C0_C4_2);
	bool tcr2 = FIELD(mmfr3, 0), sctlr2 = FIELD(mmfr3, 4), pie = FIELD(mmfr3, 8), fpmr = FIELD(pfr2, 32);
	u64 *other = (u64 *)((300UL << 30) + ((u64)&late_word & ((1UL << 30) - 1)));
	u64 has_sctlr2 = 0, has_fpmr = 0, pir = seed & 1 ? 0xeeeeeeeeeeeeee8e : 0xeeeeeeeeeeeeeece;

	if (pie) {
		/* The guest's memory once more, with another index of a permission: 1 (AP[1]) for 0. */
		guest_page_table[300] = 0;
		dsb(ish);
		__asm__ volatile("tlbi vmalle1; dsb nsh; isb");
		guest_page_table[300] = guest_page_table[1] | 1 << 6;
		dsb(ish);
		write_sysreg(pir, S3_0_C10_C2_3); /* PIR_EL1 */
		write_sysreg(seed * 0x1010101010101, S3_0_C10_C2_2); /* PIRE0_EL1, of no effect at EL1 */
		isb(); /* what PIE makes the CPU look at is there before */
		write_sysreg(1UL << 1, S3_0_C2_C0_3); /* TCR2_EL1.PIE */
		__asm__ volatile("isb; tlbi vmalle1; dsb nsh; isb");
	}
	/* Which of their bits the CPU has is its own matter. */
	if (sctlr2) {
		write_sysreg(seed & 1 ? 1UL << 5 : 1UL << 4, S3_0_C1_C0_3); /* SCTLR2_EL1: EASE or ENADERR */
		isb();
		has_sctlr2 = read_sysreg(S3_0_C1_C0_3);
	}
	if (fpmr) {
		write_sysreg(seed & 1 ? 0x49 : 0x12, S3_3_C4_C4_2); /* FPMR: F8S1, F8S2, F8D */
		isb();
		has_fpmr = read_sysreg(S3_3_C4_C4_2);
	}
	for (u64 i = 0; i < 30; i++) {
		leave(i);
		if (pie) {
			u64 esr = GUEST_PROBE("str xzr, [%0]", : : "r"(other) : "memory");

			GUEST_CHECK_EQ(ESR_EC(esr), seed & 1 ? EC_DABT_CUR : 0);
			GUEST_CHECK_EQ(GUEST_PROBE("ldr x9, [%0]", : : "r"(other) : "x9"), 0);
			GUEST_CHECK_EQ(read_sysreg(S3_0_C10_C2_3), pir);
			GUEST_CHECK_EQ(read_sysreg(S3_0_C10_C2_2), seed * 0x1010101010101);
		}
		if (tcr2)
			GUEST_CHECK_EQ(read_sysreg(S3_0_C2_C0_3), pie ? 1UL << 1 : 0);
		if (sctlr2)
			GUEST_CHECK_EQ(read_sysreg(S3_0_C1_C0_3), has_sctlr2);
		if (fpmr)
			GUEST_CHECK_EQ(read_sysreg(S3_3_C4_C4_2), has_fpmr);
	}
}

TEST(late_features_between_guests)
{
	struct vm *vm[4];

	for (u64 i = 0; i < 4; i++) {
		vm[i] = vm_create(.main = guest_late_features);
		set_arg(&vm[i]->vcpus[0], 0x40 + i);
	}
	run_beside(vm, 4);
}

/* ---- EL1 and EL0 state that the next guest on the CPU must not find ---- */

/* Registers that a guest can fill, and the bits of them that it does without what this guest lives on. */
#define FILLED(X)                          \
	X(tpidr_el0, ~0UL)                 \
	X(tpidrro_el0, ~0UL)               \
	X(sp_el0, ~0UL)                    \
	X(contextidr_el1, 0xffffffff)      \
	X(far_el1, ~0UL)                   \
	X(esr_el1, 0xffffffff)             \
	X(elr_el1, ~0UL)                   \
	X(spsr_el1, 0xf0000000)            \
	X(afsr0_el1, 0xffffffff)           \
	X(afsr1_el1, 0xffffffff)           \
	X(amair_el1, ~0UL)                 \
	X(mair_el1, 0xffUL << 56)          \
	X(tcr_el1, 0x3fUL << 24 | 1UL << 38) /* of TTBR1, which is off */ \
	X(ttbr1_el1, 0xffff0000fffff000)   \
	X(sctlr_el1, 1 << 14 | 1 << 15 | 1 << 26) /* DZE, UCT, UCI: for EL0 */ \
	X(par_el1, 0x0000fffffffff000)     \
	X(csselr_el1, 3 << 1)              \
	X(cntkctl_el1, 0x3f3)              \
	X(cntv_cval_el0, ~0UL)             \
	X(cntp_cval_el0, ~0UL)             \
	X(cntv_ctl_el0, 2)                 \
	X(cntp_ctl_el0, 2)                 \
	X(mdscr_el1, 1 << 12)              \
	X(dbgbvr0_el1, 0x00007ffffffffffc) \
	X(dbgbvr1_el1, 0x00007ffffffffffc) \
	X(dbgwvr0_el1, 0x00007ffffffffffc) \
	X(dbgwvr1_el1, 0x00007ffffffffffc) \
	X(dbgbcr0_el1, 3 << 1)             \
	X(dbgwcr0_el1, 3 << 3)

/* Fills each by its seed, which differs in each of its four bits from others', and looks again after each way out of the guest. */
static void guest_registers(u64 seed)
{
#define COUNT(name, mask) +1
	u64 has[0 FILLED(COUNT)], n = 0;

#define FILL(name, mask)                                                                        \
	write_sysreg((read_sysreg(name) & ~(mask)) | (seed * 0x1111111111111111 & (mask)), name); \
	isb();                                                                                  \
	has[n++] = read_sysreg(name) & (mask);
	FILLED(FILL)
	for (u64 i = 0; i < 30; i++) {
		leave(i);
		n = 0;
#define LOOK(name, mask) GUEST_CHECK_EQ(read_sysreg(name) & (mask), has[n++]);
		FILLED(LOOK)
	}
	/* Most are as wide as the mask says on every CPU: nothing was compared with nothing. */
	GUEST_CHECK_EQ(read_sysreg(tpidr_el0), seed * 0x1111111111111111);
	GUEST_CHECK_EQ(read_sysreg(elr_el1), seed * 0x1111111111111111);
	GUEST_CHECK_EQ(read_sysreg(spsr_el1) & 0xf0000000, seed << 28);
	GUEST_CHECK_EQ(read_sysreg(cntv_cval_el0), seed * 0x1111111111111111);
}

TEST(registers_between_guests)
{
	for (int beside = 0; beside < 2; beside++) {
		struct vm *vm[4];
		bool done[4] = { 0 };

		for (u64 i = 0; i < 4; i++) {
			vm[i] = vm_create(.main = guest_registers, .gic = true);
			set_arg(&vm[i]->vcpus[0], i + 1);
		}
		if (beside) {
			run_beside(vm, 4);
		} else {
			/* In turn, by one thread. */
			pin_to_cpu(0);
			for (u64 i = 0; !done[0] || !done[1] || !done[2] || !done[3]; i++)
				if (!done[i % 4])
					done[i % 4] = vcpu_next(&vm[i % 4]->vcpus[0]).command == GUEST_CMD_DONE;
		}
		for (u64 i = 0; i < 4; i++)
			vm_destroy(vm[i]);
	}
}

static u64 leftovers[16];

static void guest_fill_or_look(u64 fill)
{
	u64 p = 0x00005ec3e75ec000;

	if (fill) {
		write_sysreg(p, tpidr_el0);
		write_sysreg(p, tpidrro_el0);
		write_sysreg(p, contextidr_el1);
		write_sysreg(p, far_el1);
		write_sysreg(p, elr_el1);
		write_sysreg(p, sp_el0);
		write_sysreg(p, ttbr1_el1);
		write_sysreg(p, par_el1);
		write_sysreg(p, amair_el1);
		write_sysreg(p, cntv_cval_el0);
		write_sysreg(p, cntp_cval_el0);
		write_sysreg(p, dbgbvr0_el1);
		write_sysreg(p, dbgwvr0_el1);
		isb();
		return;
	}
	leftovers[0] = read_sysreg(tpidr_el0);
	leftovers[1] = read_sysreg(tpidrro_el0);
	leftovers[2] = read_sysreg(contextidr_el1);
	leftovers[3] = read_sysreg(far_el1);
	leftovers[4] = read_sysreg(elr_el1);
	leftovers[5] = read_sysreg(sp_el0);
	leftovers[6] = read_sysreg(ttbr1_el1);
	leftovers[7] = read_sysreg(par_el1);
	leftovers[8] = read_sysreg(amair_el1);
	leftovers[9] = read_sysreg(cntv_cval_el0);
	leftovers[10] = read_sysreg(cntp_cval_el0);
	leftovers[11] = read_sysreg(dbgbvr0_el1);
	leftovers[12] = read_sysreg(dbgwvr0_el1);
	for (u32 i = 0; i < 13; i++)
		if (leftovers[i] >> 12 == p >> 12 || (i == 2 && (u32)leftovers[i] == (u32)p))
			GUEST_FAIL("another guest's register: index, value", i, leftovers[i]);
}

TEST(registers_left_behind)
{
	pin_to_cpu(0);
	for (int i = 0; i < 3; i++) {
		struct vm *first = vm_create(.main = guest_fill_or_look, .gic = true), *second = vm_create(.main = guest_fill_or_look, .gic = true);

		set_arg(&first->vcpus[0], 1);
		set_arg(&second->vcpus[0], 0);
		vcpu_done(&first->vcpus[0]);
		vcpu_done(&second->vcpus[0]);
		vm_destroy(first);
		vm_destroy(second);
	}
}

/* The general registers of a fresh vCPU: what the VMM set, and zeros. */
extern const u8 raw_entry[];
__asm__(".pushsection .text\n"
	".global raw_entry\n"
	"raw_entry:\n"
	"	stp	x2, x3, [x0, #16]\n	stp	x4, x5, [x0, #32]\n	stp	x6, x7, [x0, #48]\n	stp	x8, x9, [x0, #64]\n"
	"	stp	x10, x11, [x0, #80]\n	stp	x12, x13, [x0, #96]\n	stp	x14, x15, [x0, #112]\n	stp	x16, x17, [x0, #128]\n"
	"	stp	x18, x19, [x0, #144]\n	stp	x20, x21, [x0, #160]\n	stp	x22, x23, [x0, #176]\n	stp	x24, x25, [x0, #192]\n"
	"	stp	x26, x27, [x0, #208]\n	stp	x28, x29, [x0, #224]\n	str	x30, [x0, #240]\n"
	"	dsb	sy\n"
	"	mov	x9, #0x0a000000\n"
	"	str	x1, [x9]\n"
	"1:	b	1b\n"
	".popsection\n");

TEST(general_registers_of_a_fresh_vcpu)
{
	struct vm *vm = vm_create(.main = NULL);
	struct vcpu *vcpu = &vm->vcpus[0];
	u64 at = vm_alloc(vm, 256, 64), *seen = vm_host(vm, at);

	memset(seen, 0xff, 256);
	reg_set(vcpu, CORE_REG(regs.pc), (u64)raw_entry);
	reg_set(vcpu, CORE_REG(regs.regs[0]), at);
	CHECK_EQ(vcpu_run(vcpu), 0);
	CHECK_EQ(vcpu->run->exit_reason, KVM_EXIT_MMIO);
	CHECK_EQ(*(u64 *)vcpu->run->mmio.data, 0);
	for (int i = 2; i < 31; i++)
		EXPECT_EQ(seen[i], 0);
}
