// SPDX-License-Identifier: GPL-2.0

#include <linux/of.h>
#include <linux/of_irq.h>

unsigned int loft_irq_of_parse_and_map(struct device_node *node, int index)
{
	return irq_of_parse_and_map(node, index);
}

/* Nothing at all where the device tree cannot change. */
void loft_of_node_put(struct device_node *node)
{
	of_node_put(node);
}
