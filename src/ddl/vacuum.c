/*
 * vacuum.c
 *	  VACUUM and ANALYZE of a continuous view are carried to its result table.
 *
 * The table is named by its OID, so that nobody needs rights on the hidden
 * schema.  Tables of state are vacuumed by the worker (runtime/vacuum.c).
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/lsyscache.h"

#include "compat.h"
#include "ddl/handlers.h"
#include "ddl/parts.h"

static bool is_own_view(const VacuumRelation *target, CqView *view);
static List *stored_names(const CqView *view, List *names);

void
cq_vacuum_view(CqUtility *utility)
{
	VacuumStmt *stmt = copyObject((VacuumStmt *) utility->pstmt->utilityStmt);
	bool found = false;
	ListCell *lc;

	foreach (lc, stmt->rels)
	{
		VacuumRelation *target = lfirst_node(VacuumRelation, lc);
		CqView view;

		if (!is_own_view(target, &view))
			continue;
		target->oid = view.result;
		target->va_cols = stored_names(&view, target->va_cols);
		found = true;
	}
	if (found)
		cq_utility_next_instead(utility, (Node *) stmt);
	else
		cq_utility_next(utility);
}

/* Of views of others PostgreSQL says that it skips them. */
static bool
is_own_view(const VacuumRelation *target, CqView *view)
{
	return target->relation &&
		   cq_parts_find(RangeVarGetRelid(target->relation, NoLock, true), view) &&
		   cq_compat_owns_relation(view->view, GetUserId());
}

static List *
stored_names(const CqView *view, List *names)
{
	List *stored = NIL;
	ListCell *lc;

	foreach (lc, names)
	{
		const char *name = strVal(lfirst(lc));
		AttrNumber attnum = get_attnum(view->view, name);
		AttrNumber column = attnum > 0 ? cq_parts_stored_column(view, attnum) : 0;

		if (attnum <= 0)
			ereport(ERROR,
					errcode(ERRCODE_UNDEFINED_COLUMN),
					errmsg("column \"%s\" of continuous view \"%s\" does not exist",
						   name,
						   get_rel_name(view->view)));
		if (column == 0)
			ereport(ERROR,
					errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					errmsg("cannot analyze column \"%s\" of continuous view \"%s\"",
						   name,
						   get_rel_name(view->view)),
					errdetail("The column is not stored: it is computed when the view is read."),
					errhint("Leave the list of columns out."));
		stored = lappend(stored, makeString(psprintf("c%d", column)));
	}
	return stored;
}
