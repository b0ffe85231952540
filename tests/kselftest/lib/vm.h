/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The host side of a test: virtual machines through the KVM ABI. Every function fails the case where a step fails,
 * except those that say otherwise; the raw file descriptors are there for tests of the ABI itself.
 */
#ifndef VM_H
#define VM_H

#include <linux/kvm.h>
#include <pthread.h>
#include <sys/ioctl.h>

#include "guest.h"
#include "ktap.h"

#define VM_MAX_VCPUS 16
#define VM_RAM_SIZE 0x400000UL
#define VM_STACK_SIZE 0x4000UL

struct vm;

struct vcpu {
	struct vm *vm;
	int fd;
	u32 id;
	struct kvm_run *run;
	struct guest_cpu *cpu; /* where the guest has it */
	pthread_t thread;
	/* Called for an exit that is no guest message; true: dealt with, run on. */
	bool (*on_exit)(struct vcpu *);
	/* Called when KVM_RUN fails with another errno than EINTR; true: run on. */
	bool (*on_error)(struct vcpu *, int error);
};

struct vm {
	int fd, gic;
	u8 *ram; /* GUEST_RAM.. in this process */
	u64 ram_size, next; /* next: the first guest address not handed out */
	u32 vcpu_count;
	struct vcpu vcpus[VM_MAX_VCPUS];
};

struct vm_options {
	void (*main)(u64); /* what every vCPU runs; its argument is the vCPU's index */
	u32 vcpus; /* 0: one */
	u32 bystanders; /* so many more, which never run and are not in struct vm */
	bool gic; /* with an in-kernel GICv3, initialised */
	bool no_gic_init; /* created, but KVM_DEV_ARM_VGIC_CTRL_INIT left to the test */
	bool secondaries_off; /* all but the first wait for CPU_ON */
	u32 features; /* KVM_ARM_VCPU_* bits beyond PSCI */
	u64 type; /* of KVM_CREATE_VM */
};

/* The device, opened once per case. */
int sys_fd(void);
/* Another device in its place, for the VMs that are created from now on. */
void sys_open(const char *device);
struct vm *vm_create_(const struct vm_options *options);
#define vm_create(...) vm_create_(&(struct vm_options){ __VA_ARGS__ })
void vm_destroy(struct vm *vm);

/* Guest memory as this process sees it. */
void *vm_host(struct vm *vm, u64 guest_address);
#define VM_GLOBAL(vm, var) (*(volatile __typeof__(var) *)vm_host(vm, (u64)&(var)))
/* Memory of the guest that nothing else uses. Returns its guest address. */
u64 vm_alloc(struct vm *vm, u64 size, u64 align);

/* An anonymous mapping, aligned as asked. */
void *host_alloc(u64 size, u64 align);
/* KVM_SET_USER_MEMORY_REGION; returns what ioctl did. */
int vm_slot(struct vm *vm, u32 slot, u32 flags, u64 gpa, u64 size, void *memory);
/* KVM_IRQ_LINE for an SPI or a PPI. */
void vm_irq(struct vm *vm, u32 intid, int level);
void vm_ppi(struct vcpu *vcpu, u32 intid, int level);

struct vcpu *vcpu_create(struct vm *vm, u32 id, u32 features, void (*entry)(u64), u64 arg);
/* One KVM_RUN; 0 or -errno. */
int vcpu_run(struct vcpu *vcpu);
/* Runs until the guest syncs or is done, printing its notes; a guest failure or an exit that nobody expects fails the case. */
struct guest_message vcpu_next(struct vcpu *vcpu);
/* The next message must be GUEST_SYNC(n): returns its value; or the end. */
u64 vcpu_sync(struct vcpu *vcpu, u64 n);
void vcpu_done(struct vcpu *vcpu);
/* If the exit is a guest message: takes it (true). */
bool vcpu_message(struct vcpu *vcpu, struct guest_message *message);
const char *exit_name(u32 reason);

/* A thread that runs the vCPU until it is done; and the end of it. */
void vcpu_start(struct vcpu *vcpu);
void vcpu_join(struct vcpu *vcpu);
void vm_run_all(struct vm *vm);

/* ONE_REG by id; *_try return what ioctl did. */
u64 reg_get(struct vcpu *vcpu, u64 id);
void reg_set(struct vcpu *vcpu, u64 id, u64 value);
int reg_try_get(struct vcpu *vcpu, u64 id, void *value);
int reg_try_set(struct vcpu *vcpu, u64 id, const void *value);
#define CORE_REG(NAME)                                                                                            \
	(KVM_REG_ARM64 | KVM_REG_ARM_CORE |                                                                       \
	 (sizeof(((struct kvm_regs *)0)->NAME) == 16 ? KVM_REG_SIZE_U128 :                                        \
	  sizeof(((struct kvm_regs *)0)->NAME) == 4  ? KVM_REG_SIZE_U32 : KVM_REG_SIZE_U64) |                     \
	 (offsetof(struct kvm_regs, NAME) / sizeof(u32)))

/* Device attributes; return what ioctl did. `value` may be NULL. */
int attr_has(int fd, u32 group, u64 attr);
int attr_set(int fd, u32 group, u64 attr, const void *value);
int attr_get(int fd, u32 group, u64 attr, void *value);
/* An in-kernel GICv3 at the guest's usual addresses, not initialised. Skips the case where there is none. */
int gic_create(struct vm *vm);
void gic_init(struct vm *vm);

int cap(long extension);
void sleep_us(u64 us);
u64 now_us(void);
/* Puts the calling thread on one CPU; cpu_count: how many are online. */
void pin_to_cpu(int cpu);
int cpu_count(void);
/* Waits until a thread (of this process or another) sleeps, and stays asleep for a moment; false if it does not. */
bool falls_asleep(pid_t pid, pid_t tid);
/* The same, where anything else fails the case. */
void wait_asleep(pid_t pid, pid_t tid);
/* Ends the case's wait for a guest that is in KVM_RUN on `thread`: SIGUSR1 with an empty handler (no SA_RESTART). */
void kick_setup(void);
void kick(pthread_t thread);
/* The same for the calling thread, once, after a while. */
void kick_after(u64 us);

#endif
