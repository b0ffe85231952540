/* SPDX-License-Identifier: GPL-2.0 */
/* What the `module!` macro has not got: parameters that can be read in sysfs and have a range, and a version. */
#ifndef LOFT_MODULE_H
#define LOFT_MODULE_H

#define LOFT_MODULE_VERSION	"0.1.0"

/* Written before the module's init function runs, and never again. */
extern unsigned int loft_kvm_node;
extern unsigned int loft_fast;
extern unsigned int loft_poll_us;
extern unsigned int loft_wait_us;
extern unsigned int loft_pretended_errata;

#endif
