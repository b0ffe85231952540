// SPDX-License-Identifier: GPL-2.0
/*
 * A plugin for QEMU 10.0: counts what the emulated server's CPUs execute while a workload is measured, by who executes it (the
 * host's kernel, its programs, the guest's kernel, its programs), by address in the kernels, and, in the host, by the exit
 * from the guest that it is done for. QEMU loads it with -plugin FILE,out=FILE, and out is written when QEMU ends:
 *   exit NUMBER VECTOR SYNDROME DETAIL TIMES      why the guest was left; number 0 is what is done for no exit
 *   code MODE ADDRESS NUMBER INSTRUCTIONS         ADDRESS is 0 for programs, NUMBER is 0 for the guest's
 *
 * What is counted is whole blocks, as QEMU translates them: a block that an exception ends early counts too much (0.03 %).
 * With -icount one thread runs all CPUs, so nothing here is locked, and the number of the CPU that QEMU hands to a callback is
 * wrong: it is that of the CPU for which the block was translated. Which CPU it is says TPIDR_EL2, where a Linux that runs at EL2
 * has the place of the CPU's variables.
 *
 * Debian has no package with the header of the plugins' interface. What is used of its version 4 is declared below.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t plugin_id;
struct block_handle;
struct instruction_handle;
struct register_handle;
struct info;
enum reads { REGISTERS = 1 };
/* GLib's GByteArray and GArray, which have the same form. */
struct array {
	void *data;
	unsigned int length;
};
struct register_description {
	struct register_handle *handle;
	const char *name;
	const char *feature;
};

void qemu_plugin_register_vcpu_init_cb(plugin_id id, void (*call)(plugin_id id, unsigned int cpu));
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, void (*call)(plugin_id id, struct block_handle *block));
void qemu_plugin_register_vcpu_tb_exec_cb(struct block_handle *block, void (*call)(unsigned int cpu, void *data),
					  enum reads reads, void *data);
void qemu_plugin_register_vcpu_insn_exec_cb(struct instruction_handle *instruction,
					    void (*call)(unsigned int cpu, void *data), enum reads reads, void *data);
void qemu_plugin_register_atexit_cb(plugin_id id, void (*call)(plugin_id id, void *data), void *data);
size_t qemu_plugin_tb_n_insns(const struct block_handle *block);
uint64_t qemu_plugin_tb_vaddr(const struct block_handle *block);
struct instruction_handle *qemu_plugin_tb_get_insn(const struct block_handle *block, size_t index);
size_t qemu_plugin_insn_data(const struct instruction_handle *instruction, void *to, size_t length);
struct array *qemu_plugin_get_registers(void);
int qemu_plugin_read_register(struct register_handle *handle, struct array *to);
struct array *g_byte_array_new(void);
struct array *g_byte_array_set_size(struct array *array, unsigned int length);

int qemu_plugin_version = 4;
int qemu_plugin_install(plugin_id id, const struct info *info, int argc, char **argv);

/* MOVZ XZR, #n: nobody else has a use for it. meter.c executes it. */
#define BEGIN 0xd2821e1f
#define END 0xd2821e3f
/* MSR SP_EL0, X1: in the host's kernel only cpu_switch_to has it, X1 is the thread that is next. */
#define SWITCH 0xd5184101

#define CPUS 8
#define REASONS 256
#define BUCKETS 65536
/* Below this address the launcher's guests have devices, from here on memory. */
#define RAM 0x80000000u

enum mode { HOST_KERNEL, HOST_USER, GUEST_KERNEL, GUEST_USER };
static const char *const names[] = {"host-kernel", "host-user", "guest-kernel", "guest-user"};

/* Code of one mode from one address on. In a program only the length matters. */
struct block {
	struct block *next;
	uint64_t address;
	enum mode mode;
	unsigned int length;
	/* How many instructions, by reason. */
	uint64_t *executed;
};
static struct block *blocks[BUCKETS];

/* Why a guest was left. */
struct reason {
	unsigned int vector;
	uint32_t syndrome;
	uint64_t detail;
	uint64_t times;
};
/* The first is for none, the last for all that find no place. */
static struct reason reasons[REASONS];
static unsigned int known = 1;

static struct cpu {
	/* TPIDR_EL2. */
	uint64_t name;
	bool in_guest;
	uint64_t thread;
	/* What the thread is doing something for. */
	unsigned int reason;
} cpus[CPUS];

/* Threads that do not run, and what they have left unfinished. */
static struct waiting {
	uint64_t thread;
	unsigned int reason;
} waiting[64];

static bool measuring;
static const char *out;

static const char *const wanted[] = {"cpsr", "x0", "x1", "HCR_EL2", "ESR_EL2", "FAR_EL2", "HPFAR_EL2", "TPIDR_EL2"};
enum wanted { PSTATE, X0, X1, HCR, ESR, FAR, HPFAR, TPIDR, REGISTERS_WANTED };
static struct register_handle *handles[REGISTERS_WANTED];

static uint64_t get(enum wanted which)
{
	static struct array *bytes;
	uint64_t value = 0;

	bytes = bytes ? g_byte_array_set_size(bytes, 0) : g_byte_array_new();
	if (qemu_plugin_read_register(handles[which], bytes) < 0 || bytes->length > sizeof(value))
		abort();
	memcpy(&value, bytes->data, bytes->length);
	return value;
}

static void started(plugin_id id, unsigned int cpu)
{
	struct array *registers = qemu_plugin_get_registers();
	const struct register_description *all = registers->data;

	(void)id;
	for (int i = 0; i < REGISTERS_WANTED; i++) {
		for (unsigned int k = 0; k < registers->length && !handles[i]; k++) {
			if (!strcmp(all[k].name, wanted[i]))
				handles[i] = all[k].handle;
		}
		if (!handles[i] || cpu >= CPUS) {
			fprintf(stderr, "explain: CPU %u is one too many, or its %s cannot be read\n", cpu, wanted[i]);
			exit(1);
		}
	}
}

static struct cpu *this_cpu(void)
{
	uint64_t name = get(TPIDR);
	struct cpu *cpu = cpus;

	while (cpu->name != name && cpu->name && cpu < cpus + CPUS - 1)
		cpu++;
	cpu->name = name;
	return cpu;
}

/* The CPU's mode, from which all that is translated at the moment runs: QEMU keeps the code of each mode apart. */
static enum mode mode_now(void)
{
	const uint64_t tge = 1 << 27;

	switch (get(PSTATE) >> 2 & 3) {
	case 0:
		return get(HCR) & tge ? HOST_USER : GUEST_USER;
	case 1:
		return GUEST_KERNEL;
	default:
		return HOST_KERNEL;
	}
}

static bool of_guest(enum mode mode)
{
	return mode == GUEST_KERNEL || mode == GUEST_USER;
}

/* The number of why the guest has just been left through the vector at `address`. */
static unsigned int reason_of(uint64_t address)
{
	struct reason now = {.vector = address & 0x780};
	uint32_t syndrome = get(ESR);
	unsigned int i;

	if ((now.vector & 0x180) == 0) {
		now.syndrome = syndrome & 0xfc000000;
		switch (syndrome >> 26) {
		case 0x01: /* WFI, WFE */
			now.syndrome |= syndrome & 3;
			break;
		case 0x16: /* HVC */
		case 0x17: /* SMC */
			now.detail = (uint32_t)get(X0);
			break;
		case 0x18: /* a system register: all but the general register */
			now.syndrome |= syndrome & 0x3ffc1f;
			break;
		case 0x20: /* instruction abort */
		case 0x24: /* data abort */
			now.detail = get(HPFAR) >> 4 << 12 & 0xfffffffff000;
			if (now.detail < RAM) {
				/* A device: its register, and whether it is written. */
				now.detail |= get(FAR) & 0xfff;
				now.syndrome |= syndrome & 0x40;
			} else {
				now.detail = 0;
				now.syndrome |= syndrome & 0x3f;
			}
			break;
		}
	}
	for (i = 1; i < known; i++) {
		if (reasons[i].vector == now.vector && reasons[i].syndrome == now.syndrome && reasons[i].detail == now.detail)
			break;
	}
	if (i == known && known < REASONS - 1)
		reasons[known++] = now;
	reasons[i].times++;
	return i;
}

static void executed(unsigned int index, void *data)
{
	struct block *block = data;
	struct cpu *cpu;

	(void)index;
	if (!measuring)
		return;
	cpu = this_cpu();
	if (of_guest(block->mode)) {
		cpu->in_guest = true;
		cpu->reason = 0;
	} else if (cpu->in_guest) {
		cpu->in_guest = false;
		cpu->reason = reason_of(block->address);
	}
	if (!block->executed)
		block->executed = calloc(of_guest(block->mode) ? 1 : REASONS, sizeof(*block->executed));
	block->executed[cpu->reason] += block->length;
}

/* What is done for an exit is done by the vCPU's thread; another thread has nothing to do with it. */
static void switched(unsigned int index, void *data)
{
	struct waiting *mine = NULL, *free = NULL;
	struct cpu *cpu;

	(void)index, (void)data;
	if (!measuring)
		return;
	cpu = this_cpu();
	for (unsigned int i = 0; cpu->thread && cpu->reason && i < sizeof(waiting) / sizeof(*waiting); i++) {
		if (!waiting[i].reason)
			free = &waiting[i];
	}
	if (free)
		*free = (struct waiting){cpu->thread, cpu->reason};
	cpu->thread = get(X1);
	cpu->reason = 0;
	for (unsigned int i = 0; i < sizeof(waiting) / sizeof(*waiting); i++) {
		if (waiting[i].reason && waiting[i].thread == cpu->thread)
			mine = &waiting[i];
	}
	if (mine) {
		cpu->reason = mine->reason;
		mine->reason = 0;
	}
}

static void begins(unsigned int cpu, void *data)
{
	(void)cpu, (void)data;
	memset(cpus, 0, sizeof(cpus));
	memset(waiting, 0, sizeof(waiting));
	measuring = true;
}

static void ends(unsigned int cpu, void *data)
{
	(void)cpu, (void)data;
	measuring = false;
}

/* What is translated again, because QEMU has forgotten it or ends it elsewhere, is not counted apart. */
static struct block *block_of(uint64_t address, enum mode mode, unsigned int length)
{
	struct block **place = &blocks[(address / 4 ^ address >> 18 ^ length << 4 ^ mode) % BUCKETS];
	struct block *block;

	for (block = *place; block; block = block->next) {
		if (block->address == address && block->mode == mode && block->length == length)
			return block;
	}
	block = calloc(1, sizeof(*block));
	*block = (struct block){*place, address, mode, length, NULL};
	return *place = block;
}

static void translated(plugin_id id, struct block_handle *handle)
{
	size_t length = qemu_plugin_tb_n_insns(handle);
	uint64_t address = qemu_plugin_tb_vaddr(handle);
	enum mode mode = mode_now();
	bool program = mode == HOST_USER || mode == GUEST_USER;

	(void)id;
	qemu_plugin_register_vcpu_tb_exec_cb(handle, executed, REGISTERS, block_of(program ? 0 : address, mode, length));
	if (of_guest(mode))
		return;
	for (size_t i = 0; i < length; i++) {
		struct instruction_handle *instruction = qemu_plugin_tb_get_insn(handle, i);
		uint32_t word = 0;

		qemu_plugin_insn_data(instruction, &word, sizeof(word));
		if (word == SWITCH && mode == HOST_KERNEL)
			qemu_plugin_register_vcpu_insn_exec_cb(instruction, switched, REGISTERS, NULL);
		else if (word == BEGIN)
			qemu_plugin_register_vcpu_insn_exec_cb(instruction, begins, REGISTERS, NULL);
		else if (word == END)
			qemu_plugin_register_vcpu_insn_exec_cb(instruction, ends, REGISTERS, NULL);
	}
}

static void ended(plugin_id id, void *data)
{
	FILE *file = fopen(out, "w");

	(void)id, (void)data;
	if (!file) {
		perror(out);
		return;
	}
	for (unsigned int i = 0; i < REASONS; i++) {
		if (!i || reasons[i].times)
			fprintf(file, "exit %u %x %x %" PRIx64 " %" PRIu64 "\n", i, reasons[i].vector, reasons[i].syndrome,
				reasons[i].detail, reasons[i].times);
	}
	for (unsigned int i = 0; i < BUCKETS; i++) {
		for (struct block *block = blocks[i]; block; block = block->next) {
			for (unsigned int k = 0; block->executed && k < (of_guest(block->mode) ? 1 : REASONS); k++) {
				if (block->executed[k])
					fprintf(file, "code %s %" PRIx64 " %u %" PRIu64 "\n", names[block->mode],
						block->address, k, block->executed[k]);
			}
		}
	}
	fclose(file);
}

int qemu_plugin_install(plugin_id id, const struct info *info, int argc, char **argv)
{
	(void)info;
	for (int i = 0; i < argc; i++) {
		if (!strncmp(argv[i], "out=", 4))
			out = argv[i] + 4;
	}
	if (!out) {
		fprintf(stderr, "explain: out=FILE is missing\n");
		return 1;
	}
	qemu_plugin_register_vcpu_init_cb(id, started);
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	qemu_plugin_register_atexit_cb(id, ended, NULL);
	return 0;
}
