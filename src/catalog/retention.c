/*
 * retention.c
 *	  The index by which rows of a result table are found that are too old.
 *
 * It is known by its name, so that it may be rebuilt, or come from a dump.
 */
#include "postgres.h"

#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "utils/lsyscache.h"

#include "catalog/retention.h"

char *
cq_retention_index_name(int64 view)
{
	return psprintf("t_" INT64_FORMAT "_retention", view);
}

Oid
cq_retention_index(int64 view, Oid table)
{
	Oid schema = get_namespace_oid("pipeline_data", true);
	Oid index =
		OidIsValid(schema) ? get_relname_relid(cq_retention_index_name(view), schema) : InvalidOid;

	if (!OidIsValid(index) || get_rel_relkind(index) != RELKIND_INDEX ||
		IndexGetRelation(index, true) != table)
		return InvalidOid;
	return index;
}
