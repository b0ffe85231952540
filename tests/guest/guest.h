/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The guest side of the tests: a bare-metal runtime for C functions that live in the test program itself.
 *
 * The test program is linked at GUEST_RAM. vm_create() (../kselftest/lib/vm.h) copies the whole image to the same guest
 * address, so functions, constants and globals have one address on both sides; the globals are the guest's own copy. Each
 * vCPU enters guest_boot with its struct guest_cpu in x0, switches the MMU on (identity map, below) and calls its
 * function. What a guest has to say goes to the host through one MMIO store (guest_call).
 *
 *   0x00000000-0x3fffffff   device memory: GUEST_DOORBELL, the interrupt controller, and holes for MMIO tests
 *   0x40000000-             normal write-back memory, 512 GiB of it mapped; what is behind it is up to the memory slots
 *
 * Guest code may use no libc function and no floating point, except where a file is compiled for it.
 */
#ifndef GUEST_H
#define GUEST_H

#define GUEST_RAM 0x40000000
#define GUEST_DOORBELL 0x09000000
#define GUEST_GICD 0x08000000
#define GUEST_GICR 0x080a0000
#define GUEST_GICR_STRIDE 0x20000

/* Offsets in struct guest_cpu, for boot.S. */
#define GUEST_CPU_ENTRY 0
#define GUEST_CPU_ARG 8
#define GUEST_CPU_STACK 16

#ifndef __ASSEMBLER__
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t s64;

/* One per vCPU; TPIDR_EL1 points to it. */
struct guest_cpu {
	void (*entry)(u64);
	u64 arg;
	u64 stack; /* its top */
	u64 index;
	/* guest_probe(): what the probed instruction caused. */
	volatile u64 probing, probe_esr, probe_far;
};

/* What the vectors save. The handler may change it; it is restored on return. */
struct guest_regs {
	u64 x[31];
	u64 sp;
	u64 pc;
	u64 pstate;
	u64 esr;
	u64 far;
};

typedef void (*guest_handler)(struct guest_regs *);

enum guest_vector { VECTOR_SYNC, VECTOR_IRQ, VECTOR_FIQ, VECTOR_SERROR };

/* Exception classes (Arm ARM, ESR_EL1.EC). */
#define EC_UNKNOWN 0x00
#define EC_WFX 0x01
#define EC_FP 0x07
#define EC_SVE 0x19
#define EC_SVC64 0x15
#define EC_HVC64 0x16
#define EC_SMC64 0x17
#define EC_SYS64 0x18
#define EC_IABT_CUR 0x21
#define EC_PC_ALIGN 0x22
#define EC_DABT_CUR 0x25
#define EC_BREAK_CUR 0x31
#define EC_STEP_CUR 0x33
#define EC_WATCH_CUR 0x35
#define EC_BRK64 0x3c

/* Handlers; anything without one fails the test. Set them before the exception can come. */
extern guest_handler guest_sync_handlers[64], guest_irq_handler, guest_fiq_handler, guest_serror_handler;
extern guest_handler guest_aarch32_handler; /* synchronous, from EL0 in AArch32 */
extern u64 guest_page_table[512];
void guest_boot(void);

/* What a guest can tell the host. */
enum guest_command { GUEST_CMD_DONE = 1, GUEST_CMD_SYNC, GUEST_CMD_FAIL, GUEST_CMD_NOTE };

struct guest_message {
	u64 command;
	const char *file, *text;
	u64 line, a, b;
};

void guest_call(u64 command, const char *file, u64 line, const char *text, u64 a, u64 b);

/* Stops this vCPU for good; the host sees it done. Returning from the entry function does the same. */
#define GUEST_DONE() guest_call(GUEST_CMD_DONE, __FILE__, __LINE__, "", 0, 0)
/* A point that the host waits for (vcpu_sync) with a number to tell it by, and optionally a value. */
#define GUEST_SYNC(n) guest_call(GUEST_CMD_SYNC, __FILE__, __LINE__, "", n, 0)
#define GUEST_SYNC2(n, value) guest_call(GUEST_CMD_SYNC, __FILE__, __LINE__, "", n, (u64)(value))
#define GUEST_NOTE(text, a, b) guest_call(GUEST_CMD_NOTE, __FILE__, __LINE__, text, (u64)(a), (u64)(b))
#define GUEST_FAIL(text, a, b) guest_call(GUEST_CMD_FAIL, __FILE__, __LINE__, text, (u64)(a), (u64)(b))
#define GUEST_CHECK(c) ((c) ? (void)0 : GUEST_FAIL(#c, 0, 0))
#define GUEST_CHECK_EQ(a, b)                                    \
	do {                                                    \
		u64 a_ = (u64)(a), b_ = (u64)(b);               \
		if (a_ != b_)                                   \
			GUEST_FAIL(#a " == " #b, a_, b_);       \
	} while (0)

#define STRINGIFY_(x) #x
#define STRINGIFY(x) STRINGIFY_(x)
#define read_sysreg(r)                                                                  \
	({                                                                              \
		u64 v_;                                                                 \
		__asm__ volatile("mrs %0, " STRINGIFY(r) : "=r"(v_) : : "memory");      \
		v_;                                                                     \
	})
#define write_sysreg(v, r) __asm__ volatile("msr " STRINGIFY(r) ", %x0" : : "rZ"((u64)(v)) : "memory")
#define isb() __asm__ volatile("isb" : : : "memory")
#define dsb(scope) __asm__ volatile("dsb " #scope : : : "memory")
#define wfi() __asm__ volatile("wfi" : : : "memory")
#define wfe() __asm__ volatile("wfe" : : : "memory")
#define irq_enable() __asm__ volatile("msr daifclr, #2" : : : "memory")
#define irq_disable() __asm__ volatile("msr daifset, #2" : : : "memory")

static inline struct guest_cpu *guest_self(void)
{
	return (struct guest_cpu *)read_sysreg(tpidr_el1);
}

/* MMIO in the forms that have a valid syndrome (one register, no writeback). */
#define DEFINE_MMIO(bits, w, suffix)                                                                          \
	static inline u##bits mmio_read##bits(u64 addr)                                                       \
	{                                                                                                     \
		u##bits v;                                                                                    \
		__asm__ volatile("ldr" suffix " %" w "0, [%1]" : "=r"(v) : "r"(addr) : "memory");             \
		return v;                                                                                     \
	}                                                                                                     \
	static inline void mmio_write##bits(u64 addr, u##bits v)                                              \
	{                                                                                                     \
		__asm__ volatile("str" suffix " %" w "0, [%1]" : : "rZ"(v), "r"(addr) : "memory");            \
	}
DEFINE_MMIO(8, "w", "b")
DEFINE_MMIO(16, "w", "h")
DEFINE_MMIO(32, "w", "")
DEFINE_MMIO(64, "x", "")

/*
 * Runs one instruction (ASM, with constraint lists) that may cause a synchronous exception, steps over it where it does,
 * and gives the ESR (0: no exception). The fault address is then in guest_self()->probe_far.
 */
#define GUEST_PROBE(ASM, ...)                                           \
	({                                                              \
		struct guest_cpu *self_ = guest_self();                 \
		self_->probe_esr = 0;                                   \
		self_->probing = 1;                                     \
		__asm__ volatile("" : : : "memory");                    \
		__asm__ volatile(ASM __VA_ARGS__);                      \
		__asm__ volatile("" : : : "memory");                    \
		self_->probing = 0;                                     \
		self_->probe_esr;                                       \
	})
#define ESR_EC(esr) ((esr) >> 26 & 0x3f)
/* Four bits of an identification register. */
#define FIELD(v, shift) ((v) >> (shift) & 0xf)

/* SMCCC call by HVC: x0-x3 in, x0-x3 out. */
struct smccc_result {
	u64 x0, x1, x2, x3;
};

static inline struct smccc_result guest_hvc(u64 fn, u64 a1, u64 a2, u64 a3)
{
	register u64 x0 __asm__("x0") = fn;
	register u64 x1 __asm__("x1") = a1;
	register u64 x2 __asm__("x2") = a2;
	register u64 x3 __asm__("x3") = a3;

	__asm__ volatile("hvc #0" : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3) : : "memory");
	return (struct smccc_result){ x0, x1, x2, x3 };
}

/* The next of a row of numbers (xorshift), which is the same for the same beginning. Not 0. The host may use it, too. */
static inline u64 guest_random(u64 *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* The virtual counter, ordered after what comes before; and a busy wait. */
static inline u64 guest_now(void)
{
	isb();
	return read_sysreg(cntvct_el0);
}

static inline u64 guest_us(u64 us)
{
	return us * read_sysreg(cntfrq_el0) / 1000000;
}

static inline void guest_delay_us(u64 us)
{
	u64 end = guest_now() + guest_us(us);

	while (guest_now() < end)
		;
}

#define READ_ONCE(x) (*(volatile __typeof__(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile __typeof__(x) *)&(x) = (v))
#define load_acquire(p) __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define store_release(p, v) __atomic_store_n(p, v, __ATOMIC_RELEASE)
#define atomic_inc(p) __atomic_add_fetch(p, 1, __ATOMIC_SEQ_CST)
#endif
#endif
