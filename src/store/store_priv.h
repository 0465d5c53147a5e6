/* store/store_priv.h: a transaction as store.c and query.c see it; for this folder only. */
#pragma once
#include "store/driver.h"

#define TX_MAGIC 0x54584e21u

struct tx {
	unsigned magic;
	struct store *st;
	const struct driver *driver;
	struct db *db;
	bool write;
	int failed; /* first error of a statement: the transaction can only be rolled back */
};
