// SPDX-License-Identifier: GPL-2.0
/* See shim.h. */
#include <linux/acpi.h>
#include <linux/anon_inodes.h>
#include <linux/arm-smccc.h>
#include <linux/cpuhotplug.h>
#include <linux/entry-virt.h>
#include <linux/file.h>
#include <linux/hugetlb.h>
#include <linux/fs.h>
#include <linux/interrupt.h>
#include <linux/kvm_host.h>
#include <linux/irq.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/of.h>
#include <linux/of_irq.h>
#include <linux/percpu.h>
#include <linux/pgtable.h>
#include <linux/poll.h>
#include <linux/preempt.h>
#include <linux/rcuwait.h>
#include <linux/rseq.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/stat.h>
#include <linux/spinlock.h>
#include <linux/timekeeping.h>
#include <linux/workqueue.h>
#include <asm/cpufeature.h>
#include <asm/daifflags.h>
#include <asm/neon.h>
#include <asm/smp.h>
#include <clocksource/arm_arch_timer.h>
#include "shim.h"
#include "../../arch/arm64/layout.h"

void loft_raw_spin_lock_init(struct raw_spinlock *lock, const char *name, struct lock_class_key *key)
{
#ifdef CONFIG_DEBUG_SPINLOCK
	__raw_spin_lock_init(lock, name, key, LD_WAIT_SPIN);
#else
	raw_spin_lock_init(lock);
#endif
}

unsigned long loft_raw_spin_lock_irqsave(struct raw_spinlock *lock)
{
	unsigned long flags;

	raw_spin_lock_irqsave(lock, flags);
	return flags;
}

bool loft_raw_spin_trylock_irqsave(struct raw_spinlock *lock, unsigned long *flags)
{
	return raw_spin_trylock_irqsave(lock, *flags);
}

void loft_raw_spin_assert_is_held(struct raw_spinlock *lock)
{
	lockdep_assert_held(lock);
}

void loft_raw_spin_unlock_irqrestore(struct raw_spinlock *lock, unsigned long flags)
{
	raw_spin_unlock_irqrestore(lock, flags);
}

void loft_rwlock_init(void *lock, const char *name, struct lock_class_key *key)
{
#ifdef CONFIG_DEBUG_SPINLOCK
	__rwlock_init(lock, name, key);
#else
	rwlock_init((rwlock_t *)lock);
#endif
}

int loft_mutex_lock_killable(void *lock)
{
	return mutex_lock_killable((struct mutex *)lock);
}

void loft_read_lock(void *lock)
{
	read_lock((rwlock_t *)lock);
}

void loft_read_unlock(void *lock)
{
	read_unlock((rwlock_t *)lock);
}

void loft_write_lock(void *lock)
{
	write_lock((rwlock_t *)lock);
}

void loft_write_unlock(void *lock)
{
	write_unlock((rwlock_t *)lock);
}

struct loft_retired {
	struct rcu_work work;
	void (*drop)(void *value);
	void *value;
};

static struct workqueue_struct *loft_retirement;

int loft_rcu_begin(void)
{
	loft_retirement = alloc_workqueue("loft", WQ_UNBOUND, 0);
	return loft_retirement ? 0 : -ENOMEM;
}

static void loft_retired_drop(struct work_struct *work)
{
	struct loft_retired *retired = container_of(to_rcu_work(work), struct loft_retired, work);

	retired->drop(retired->value);
	kfree(retired);
}

void loft_rcu_retire(void (*drop)(void *value), void *value)
{
	struct loft_retired *retired = kmalloc(sizeof(*retired), GFP_KERNEL_ACCOUNT);

	if (!retired) {
		synchronize_rcu();
		drop(value);
		return;
	}
	retired->drop = drop;
	retired->value = value;
	INIT_RCU_WORK(&retired->work, loft_retired_drop);
	queue_rcu_work(loft_retirement, &retired->work);
}

void loft_rcu_end(void)
{
	rcu_barrier(); /* all are in the queue */
	destroy_workqueue(loft_retirement); /* and done */
}

void loft_preempt_disable(void)
{
	preempt_disable();
}

void loft_preempt_enable(void)
{
	preempt_enable();
}

unsigned long loft_local_irq_save(void)
{
	unsigned long flags;

	local_irq_save(flags);
	return flags;
}

void loft_local_irq_restore(unsigned long flags)
{
	local_irq_restore(flags);
}

bool loft_need_resched(void)
{
	return need_resched();
}

bool loft_single_task_running(void)
{
	return single_task_running();
}

bool loft_tick_preempts(void)
{
	return !IS_ENABLED(CONFIG_PREEMPT_LAZY) && !tick_nohz_full_cpu(raw_smp_processor_id());
}

bool loft_fatal_signal_pending(void)
{
	return fatal_signal_pending(current);
}

void loft_cond_resched(void)
{
	cond_resched();
}

void loft_yield(void)
{
	yield();
}

unsigned int loft_num_online_cpus(void)
{
	return num_online_cpus();
}

void loft_on_each_cpu(void (*function)(void *))
{
	on_each_cpu(function, NULL, 1);
}

static DEFINE_PER_CPU(unsigned long, loft_quiescent_at);

/*
 * A guest's CPU holds nothing that RCU protects, and RCU has to hear of that, since the tick finds the CPU in the kernel. It
 * asks at each tick; to be told more often, as guest_context_enter_irqoff() does at each entry and each exit, is no use to it.
 */
static void loft_guest_note_quiescence(void)
{
	unsigned long now = READ_ONCE(jiffies);

	if (__this_cpu_read(loft_quiescent_at) == now)
		return;
	__this_cpu_write(loft_quiescent_at, now);
	rcu_virt_note_context_switch();
}

/*
 * Erratum 1508412 (Cortex-A77): a read of PAR_EL1 or a store-exclusive near a load from a device can hang the CPU. A guest has
 * DMBs around its reads, but the exit may have come right after the first, and the host may have read a device since. So after
 * whatever reads a device on the way into a guest.
 */
static __always_inline void dmb_before_guest(void)
{
	asm volatile(ALTERNATIVE("nop", "dmb sy", ARM64_WORKAROUND_1508412) : : : "memory");
}

void loft_dmb_before_guest(void)
{
	dmb_before_guest();
}

/*
 * Not guest_state_enter_irqoff(), which also tells lockdep that interrupts are on, as the guest has them: what runs at EL2
 * while the guest is in the CPU, fast exits with their locks, runs with interrupts masked.
 */
void loft_guest_enter_irqoff(void)
{
	dmb_before_guest();
	guest_timing_enter_irqoff();
	if (context_tracking_enabled())
		guest_context_enter_irqoff();
	else
		loft_guest_note_quiescence();
}

void loft_guest_exit_irqoff(void)
{
	if (context_tracking_enabled())
		guest_context_exit_irqoff();
}

bool loft_tracks_context(void)
{
	return context_tracking_enabled();
}

void loft_guest_pause_irqoff(void)
{
	context_tracking_guest_exit();
}

void loft_guest_resume_irqoff(void)
{
	context_tracking_guest_enter();
}

/* The tick that ended the guest's run is taken before the guest's time is accounted, so that it counts as the guest's. */
void loft_guest_tick_irqoff(void)
{
	local_irq_enable();
	isb(); /* a pending interrupt is taken here, not after the accounting */
	local_irq_disable();
	guest_timing_exit_irqoff();
}

bool loft_guest_work_pending(void)
{
	return __xfer_to_guest_mode_work_pending();
}

/*
 * The last look before a guest is entered. On a CPU without a tick (nohz_full) whose RCU callbacks another thread runs, a
 * wake-up of that thread may have been put off; nothing else would make up for it while the guest runs.
 */
bool loft_guest_work_pending_irqoff(void)
{
	xfer_to_guest_mode_prepare();
	return __xfer_to_guest_mode_work_pending();
}

int loft_guest_handle_work(void)
{
	return xfer_to_guest_mode_handle_work();
}

void loft_guest_leave_to_user(void)
{
	rseq_virt_userspace_exit();
}

void loft_preempt_notifier_init(struct preempt_notifier *notifier, const struct preempt_ops *ops)
{
	preempt_notifier_init(notifier, (struct preempt_ops *)ops);
}

void loft_preempt_notifiers_inc(void)
{
	preempt_notifier_inc();
}

void loft_preempt_notifiers_dec(void)
{
	preempt_notifier_dec();
}

void loft_daif_mask(void)
{
	local_daif_mask();
	/*
	 * With pseudo-NMIs the above has let all priorities through again, and masks interrupts in PSTATE as the guest's entry
	 * wants it: the guest can be interrupted. The GIC may take until here to hear of it, and would not ring before.
	 */
	pmr_sync();
}

void loft_daif_unmask_noirq(void)
{
	local_daif_restore(DAIF_PROCCTX_NOIRQ);
}

DEFINE_PER_CPU(void *, loft_loaded_frame);

void loft_set_loaded_frame(void *frame)
{
	__this_cpu_write(loft_loaded_frame, frame); /* preemption is off */
}

void loft_neon_begin(struct user_fpsimd_state *host)
{
	kernel_neon_begin(host);
}

void loft_neon_end(struct user_fpsimd_state *host)
{
	kernel_neon_end(host);
}

int loft_rcuwait_block(struct rcuwait *wait, bool (*done)(void *arg), void *arg, s64 deadline_ns)
{
	ktime_t deadline = ns_to_ktime(deadline_ns);
	int ret = 0;

	prepare_to_rcuwait(wait);
	for (;;) {
		set_current_state(TASK_INTERRUPTIBLE);
		if (done(arg))
			break;
		if (signal_pending(current)) {
			ret = -EINTR;
			break;
		}
		if (deadline_ns == KTIME_MAX)
			schedule();
		else if (!schedule_hrtimeout(&deadline, HRTIMER_MODE_ABS))
			break;
	}
	finish_rcuwait(wait);
	return ret;
}

void loft_rcuwait_init(struct rcuwait *wait)
{
	rcuwait_init(wait);
}

void loft_sigprocmask(void *set, void *old)
{
	sigprocmask(SIG_SETMASK, set, old);
}

bool loft_real_time(u64 *ns, u64 *counter)
{
	struct system_time_snapshot snapshot;

	ktime_get_snapshot_id(CLOCK_REALTIME, &snapshot);
	*ns = ktime_to_ns(snapshot.systime);
	*counter = snapshot.cycles;
	return snapshot.cs_id == CSID_ARM_ARCH_COUNTER;
}

bool loft_sched_info_on(void)
{
	return sched_info_on();
}

u64 loft_run_delay(void)
{
#ifdef CONFIG_SCHED_INFO
	return READ_ONCE(current->sched_info.run_delay);
#else
	return 0;
#endif
}

struct file *loft_anon_inode_getfile(const char *name, const struct file_operations *ops, void *data, int flags)
{
	struct file *file = anon_inode_getfile(name, ops, data, flags);

	/* It can be read, so from anywhere: anonymous files are not for pread() unless they say so. */
	if (!IS_ERR(file) && ops->read)
		file->f_mode |= FMODE_PREAD;
	return file;
}

void *loft_file_private(struct file *file)
{
	return file->private_data;
}

struct page *loft_virt_to_page(const void *address)
{
	return virt_to_page(address);
}

u64 loft_page_to_phys(struct page *page)
{
	return page_to_phys(page);
}

void *loft_phys_to_virt(u64 physical)
{
	return phys_to_virt(physical);
}

u64 loft_virt_to_phys(const void *address)
{
	return virt_to_phys((void *)address);
}

void loft_put_page(struct page *page)
{
	put_page(page);
}

/*
 * How large a leaf the host maps `address` with, as a shift; 0 where it maps nothing. The tables are only read: with
 * interrupts off they cannot be freed, since that waits for every CPU (as for get_user_pages_fast()).
 */
unsigned int loft_host_leaf_shift(struct mm_struct *mm, unsigned long address)
{
	unsigned int shift = 0;
	unsigned long flags;
	pgd_t pgd;
	p4d_t p4d;
	pud_t pud;
	pmd_t pmd;
	p4d_t *p4dp;
	pud_t *pudp;
	pmd_t *pmdp;

	local_irq_save(flags);
	pgd = READ_ONCE(*pgd_offset(mm, address));
	if (pgd_none(pgd))
		goto out;
	p4dp = p4d_offset_lockless(pgd_offset(mm, address), pgd, address);
	p4d = READ_ONCE(*p4dp);
	if (p4d_none(p4d) || !p4d_present(p4d))
		goto out;
	pudp = pud_offset_lockless(p4dp, p4d, address);
	pud = READ_ONCE(*pudp);
	if (pud_none(pud) || !pud_present(pud))
		goto out;
	if (pud_leaf(pud)) {
		shift = PUD_SHIFT;
		goto out;
	}
	pmdp = pmd_offset_lockless(pudp, pud, address);
	pmd = READ_ONCE(*pmdp);
	if (pmd_none(pmd) || !pmd_present(pmd))
		goto out;
	shift = pmd_leaf(pmd) ? PMD_SHIFT : PAGE_SHIFT;
out:
	local_irq_restore(flags);
	return shift;
}

/*
 * The page at `address` of the current process, for as long as the caller needs to map it: a reference, no pin. Whoever
 * reads gets it writable where that costs nothing, so that the guest's first write does not fault again.
 */
int loft_get_page(unsigned long address, bool write, bool *writable, struct page **page)
{
	int got;

	*writable = true;
	if (get_user_pages_fast_only(address, 1, FOLL_WRITE, page) == 1)
		return 0;
	*writable = write;
	got = get_user_pages_unlocked(address, 1, page, (write ? FOLL_WRITE : 0) | FOLL_HWPOISON);
	return got == 1 ? 0 : got < 0 && got != -EEXIST ? got : -EFAULT; /* EEXIST: no page that is counted */
}

/* How the host maps what is no RAM: what stage 1 says there, and what its driver says of other uncached types. */
static int loft_memory_kind(const struct vm_area_struct *vma)
{
	switch (FIELD_GET(PTE_ATTRINDX_MASK, pgprot_val(vma->vm_page_prot))) {
	case MT_NORMAL_NC:
	case MT_DEVICE_nGnRnE:
	case MT_DEVICE_nGnRE:
		return vma->vm_flags & VM_ALLOW_ANY_UNCACHED ? LOFT_MEMORY_UNCACHED : LOFT_MEMORY_DEVICE;
	default:
		return LOFT_MEMORY_CACHED;
	}
}

/*
 * What is behind an address where get_user_pages() finds nothing, since the mapping has no pages that could be counted
 * (VM_PFNMAP): a kind of memory, else an error. It stays there only until the next notification about the address.
 */
int loft_follow_page(unsigned long address, bool write, bool *writable, u64 *physical)
{
	struct follow_pfnmap_args args = { .address = address };
	struct mm_struct *mm = current->mm;
	bool unlocked = false;
	int ret = -EFAULT;

	if (mmap_read_lock_killable(mm))
		return -EINTR;
	args.vma = vma_lookup(mm, address);
	if (!args.vma || !(args.vma->vm_flags & (VM_IO | VM_PFNMAP)) || !(args.vma->vm_flags & VM_READ))
		goto out;
	if (follow_pfnmap_start(&args)) {
		ret = fixup_user_fault(mm, address, write ? FAULT_FLAG_WRITE : 0, &unlocked);
		if (unlocked && !ret)
			ret = -EAGAIN; /* the mapping may be another one by now */
		if (ret)
			goto out;
		ret = -EFAULT;
		if (follow_pfnmap_start(&args))
			goto out;
	}
	if (!write || args.writable) {
		*writable = args.writable;
		*physical = PFN_PHYS(args.pfn) | offset_in_page(address);
		ret = pfn_is_map_memory(args.pfn) ? LOFT_MEMORY_RAM : loft_memory_kind(args.vma);
	}
	follow_pfnmap_end(&args);
out:
	mmap_read_unlock(mm);
	return ret;
}

/*
 * Whether what is mapped in a range now may be a guest's memory. What has no counted pages cannot be logged, and may be
 * cacheable only if `cacheable`.
 */
int loft_check_memory(unsigned long start, unsigned long size, bool logs, bool cacheable)
{
	unsigned long at = start, end = start + size;
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	int ret = 0;

	if (mmap_read_lock_killable(mm))
		return -EINTR;
	while (!ret && at < end && (vma = find_vma_intersection(mm, at, end))) {
		if (vma->vm_flags & VM_PFNMAP && (logs || (!cacheable && loft_memory_kind(vma) == LOFT_MEMORY_CACHED)))
			ret = -EINVAL;
		at = vma->vm_end;
	}
	mmap_read_unlock(mm);
	return ret;
}

/* What breaks of hugetlbfs breaks as a whole; of other memory it is a page. */
void loft_report_poison(unsigned long address)
{
	struct vm_area_struct *vma;
	short shift = PAGE_SHIFT;

	mmap_read_lock(current->mm);
	vma = vma_lookup(current->mm, address);
	if (vma && is_vm_hugetlb_page(vma))
		shift = huge_page_shift(hstate_vma(vma));
	mmap_read_unlock(current->mm);
	send_sig_mceerr(BUS_MCEERR_AR, (void __user *)address, shift, current);
}

void loft_report_error(u64 physical)
{
	pr_err_ratelimited("loft: %s[%d]: memory error in a guest, at physical address %#llx\n", current->comm, current->pid, physical);
	memory_failure_queue(physical >> PAGE_SHIFT, 0);
}

void loft_uncontained_error(u64 esr)
{
	nmi_panic(NULL, "loft: uncontained SError in a guest");
}

bool loft_range_blockable(const struct mmu_notifier_range *range)
{
	return mmu_notifier_range_blockable(range);
}

void loft_mmgrab(struct mm_struct *mm)
{
	mmgrab(mm);
}

void loft_mmdrop(struct mm_struct *mm)
{
	mmdrop(mm);
}

struct mm_struct *loft_current_mm(void)
{
	return current->mm;
}

bool loft_access_ok(unsigned long address, unsigned long size)
{
	/*
	 * access_ok() takes an address with a tag for the address without. The notifications about changes have no tags, so
	 * a slot must not have one either, or it would never hear of them.
	 */
	return address == untagged_addr(address) && access_ok((void __user *)address, size);
}

/* Is reached only if a line of the guest's rises while the host's interrupts are on: loft masks them before. */
static irqreturn_t loft_ppi_handler(int irq, void *token)
{
	return IRQ_HANDLED;
}

int loft_request_ppi(unsigned int irq, const char *name, void *token)
{
	return request_percpu_irq(irq, loft_ppi_handler, name, (void __percpu *)token);
}

/* Nothing at all where the device tree cannot change. */
void loft_of_node_put(struct device_node *node)
{
	of_node_put(node);
}

unsigned int loft_irq_of_parse_and_map(struct device_node *node, int index)
{
	return irq_of_parse_and_map(node, index);
}

int loft_cpuhp_online(int (*online)(unsigned int cpu), int (*offline)(unsigned int cpu))
{
	return cpuhp_setup_state(CPUHP_AP_ONLINE_DYN, "virt/loft:online", online, offline);
}

void loft_cpuhp_remove(int state)
{
	cpuhp_remove_state(state);
}

/* Linux 7.3 repeats only the end of a sequence of TLBIs, and says so. */
#ifndef ARM64_WORKAROUND_REPEAT_TLBI
#define ARM64_WORKAROUND_REPEAT_TLBI ARM64_WORKAROUND_REPEAT_TLBI_SYNC
#endif

/* The one place where the kernel is asked; rust/arch/errata.list says what becomes of everything else that it knows of CPUs. */
unsigned int loft_errata(void)
{
	static const struct {
		unsigned int capability, erratum;
	} table[] = {
		{ ARM64_WORKAROUND_REPEAT_TLBI, LOFT_REPEAT_TLBI },
		{ ARM64_WORKAROUND_SPECULATIVE_AT, LOFT_SPECULATIVE_AT },
		{ ARM64_WORKAROUND_CAVIUM_TX2_219_TVM, LOFT_MMU_WRITES_TRAP },
		{ ARM64_WORKAROUND_AMPERE_AC03_CPU_38, LOFT_HIDDEN_HAFDBS },
		{ ARM64_WORKAROUND_QCOM_ORYON_CNTVOFF, LOFT_NO_CNTVOFF },
		{ ARM64_MISMATCHED_CACHE_TYPE, LOFT_CACHES_DIFFER },
		{ ARM64_WORKAROUND_1508412, LOFT_PAR_DEADLOCK },
		{ ARM64_WORKAROUND_DEVICE_LOAD_ACQUIRE, LOFT_LOAD_DEADLOCK },
		{ ARM64_WORKAROUND_2077057, LOFT_STEP_LOSES_PSTATE },
		{ ARM64_WORKAROUND_4311569, LOFT_REPEAT_CLEANING },
	};
	unsigned int n, found = 0;

	for (n = 0; n < ARRAY_SIZE(table); n++)
		if (cpus_have_cap(table[n].capability))
			found |= table[n].erratum;
	return found;
}

bool loft_this_cpu_has_spectre_bhb(void)
{
	return this_cpu_has_cap(ARM64_SPECTRE_BHB);
}

bool loft_cpus_have_pauth(void)
{
	return system_supports_address_auth();
}

u64 loft_cntfrq(void)
{
	return arch_timer_get_cntfrq();
}

int loft_smccc_workaround(u32 function)
{
	struct arm_smccc_res res;

	arm_smccc_1_1_invoke(ARM_SMCCC_ARCH_FEATURES_FUNC_ID, function, &res);
	return (int)res.a0;
}

/* The flaws that some CPU of the machine has, as the kernel has found out. */
unsigned int loft_speculation_flaws(void)
{
	return (cpus_have_cap(ARM64_SPECTRE_V2) ? LOFT_SPECTRE_V2 : 0) |
	       (cpus_have_cap(ARM64_SPECTRE_V4) ? LOFT_SPECTRE_V4 : 0) |
	       (cpus_have_cap(ARM64_SPECTRE_BHB) ? LOFT_SPECTRE_BHB : 0);
}

struct loft_watch {
	poll_table table;
	struct wait_queue_entry *entry;
	int ret;
};

static void loft_watch_queue(struct file *file, struct wait_queue_head *head, poll_table *table)
{
	struct loft_watch *watch = container_of(table, struct loft_watch, table);

	watch->ret = add_wait_queue_priority_exclusive(head, watch->entry);
}

int loft_eventfd_watch(struct file *file, struct wait_queue_entry *entry,
		       int (*wake)(struct wait_queue_entry *, unsigned int, int, void *))
{
	struct loft_watch watch = { .entry = entry, .ret = -EINVAL };
	__poll_t events;

	init_waitqueue_func_entry(entry, wake);
	init_poll_funcptr(&watch.table, loft_watch_queue);
	events = vfs_poll(file, &watch.table);
	return watch.ret ?: !!(events & EPOLLIN);
}
