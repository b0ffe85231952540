// SPDX-License-Identifier: GPL-2.0
/* Running vCPUs, on the calling thread and on their own, and the messages that guests send. */
#include <sched.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "vm.h"

const char *exit_name(u32 reason)
{
	switch (reason) {
	case KVM_EXIT_UNKNOWN: return "UNKNOWN";
	case KVM_EXIT_HYPERCALL: return "HYPERCALL";
	case KVM_EXIT_DEBUG: return "DEBUG";
	case KVM_EXIT_MMIO: return "MMIO";
	case KVM_EXIT_FAIL_ENTRY: return "FAIL_ENTRY";
	case KVM_EXIT_INTR: return "INTR";
	case KVM_EXIT_INTERNAL_ERROR: return "INTERNAL_ERROR";
	case KVM_EXIT_SYSTEM_EVENT: return "SYSTEM_EVENT";
	case KVM_EXIT_ARM_NISV: return "ARM_NISV";
	case KVM_EXIT_MEMORY_FAULT: return "MEMORY_FAULT";
	}
	return "?";
}

int vcpu_run(struct vcpu *vcpu)
{
	return ioctl(vcpu->fd, KVM_RUN, 0) < 0 ? -errno : 0;
}

bool vcpu_message(struct vcpu *vcpu, struct guest_message *message)
{
	struct kvm_run *run = vcpu->run;
	u64 address;

	if (run->exit_reason != KVM_EXIT_MMIO || run->mmio.phys_addr != GUEST_DOORBELL || !run->mmio.is_write)
		return false;
	CHECK_EQ(run->mmio.len, 8);
	memcpy(&address, run->mmio.data, 8);
	memcpy(message, vm_host(vcpu->vm, address), sizeof(*message));
	return true;
}

static void unexpected(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	u64 pc = reg_get(vcpu, CORE_REG(regs.pc));

	if (run->exit_reason == KVM_EXIT_MMIO)
		FAIL("vcpu %u: unexpected MMIO %s of %u bytes at %#llx, pc %#lx", vcpu->id, run->mmio.is_write ? "write" : "read",
		     run->mmio.len, run->mmio.phys_addr, pc);
	if (run->exit_reason == KVM_EXIT_SYSTEM_EVENT)
		FAIL("vcpu %u: unexpected system event %u, pc %#lx", vcpu->id, run->system_event.type, pc);
	FAIL("vcpu %u: unexpected exit %u %s, pc %#lx", vcpu->id, run->exit_reason, exit_name(run->exit_reason), pc);
}

struct guest_message vcpu_next(struct vcpu *vcpu)
{
	struct guest_message m;

	for (;;) {
		int r = vcpu_run(vcpu);

		if (r == -EINTR || (r < 0 && vcpu->on_error && vcpu->on_error(vcpu, -r)))
			continue;
		if (r < 0)
			FAIL("vcpu %u: KVM_RUN: %s", vcpu->id, strerrorname_np(-r));
		if (!vcpu_message(vcpu, &m)) {
			if (vcpu->on_exit && vcpu->on_exit(vcpu))
				continue;
			unexpected(vcpu);
		}
		switch (m.command) {
		case GUEST_CMD_DONE:
		case GUEST_CMD_SYNC:
			return m;
		case GUEST_CMD_NOTE:
			ktap_note("vcpu %u: %s: %#lx %#lx", vcpu->id, m.text, m.a, m.b);
			break;
		case GUEST_CMD_FAIL:
			ktap_fail(m.file, m.line, "guest, vcpu %u: %s: %#lx (%ld) %#lx (%ld)", vcpu->id, m.text, m.a, (long)m.a, m.b, (long)m.b);
		default:
			FAIL("vcpu %u: message of unknown kind %lu", vcpu->id, m.command);
		}
	}
}

u64 vcpu_sync(struct vcpu *vcpu, u64 n)
{
	struct guest_message m = vcpu_next(vcpu);

	if (m.command != GUEST_CMD_SYNC || m.a != n)
		FAIL("vcpu %u: wanted sync %lu, the guest is at %s:%lu with %s %lu", vcpu->id, n, m.file, m.line,
		     m.command == GUEST_CMD_DONE ? "done" : "sync", m.a);
	return m.b;
}

void vcpu_done(struct vcpu *vcpu)
{
	struct guest_message m = vcpu_next(vcpu);

	if (m.command != GUEST_CMD_DONE)
		FAIL("vcpu %u: wanted the end, the guest is at %s:%lu with sync %lu", vcpu->id, m.file, m.line, m.a);
}

static void *thread_main(void *arg)
{
	vcpu_done(arg);
	return NULL;
}

void vcpu_start(struct vcpu *vcpu)
{
	CHECK(pthread_create(&vcpu->thread, NULL, thread_main, vcpu) == 0);
}

void vcpu_join(struct vcpu *vcpu)
{
	CHECK(pthread_join(vcpu->thread, NULL) == 0);
}

void vm_run_all(struct vm *vm)
{
	for (u32 i = 0; i < vm->vcpu_count; i++)
		vcpu_start(&vm->vcpus[i]);
	for (u32 i = 0; i < vm->vcpu_count; i++)
		vcpu_join(&vm->vcpus[i]);
}

void sleep_us(u64 us)
{
	struct timespec t = { us / 1000000, us % 1000000 * 1000 };

	while (nanosleep(&t, &t) < 0 && errno == EINTR)
		;
}

u64 now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000UL + t.tv_nsec / 1000;
}

void pin_to_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	CHECK_OK(sched_setaffinity(0, sizeof(set), &set));
}

int cpu_count(void)
{
	return sysconf(_SC_NPROCESSORS_ONLN);
}

static void nothing(int signal)
{
}

void kick_setup(void)
{
	struct sigaction action = { .sa_handler = nothing };

	CHECK_OK(sigaction(SIGUSR1, &action, NULL));
}

void kick(pthread_t thread)
{
	CHECK(pthread_kill(thread, SIGUSR1) == 0);
}

struct delayed_kick {
	pthread_t target;
	u64 us;
};

static void *kick_later(void *arg)
{
	struct delayed_kick *k = arg;

	sleep_us(k->us);
	kick(k->target);
	free(k);
	return NULL;
}

void kick_after(u64 us)
{
	struct delayed_kick *k = malloc(sizeof(*k));
	pthread_t thread;

	CHECK(k);
	*k = (struct delayed_kick){ pthread_self(), us };
	kick_setup();
	CHECK(pthread_create(&thread, NULL, kick_later, k) == 0);
	pthread_detach(thread);
}
