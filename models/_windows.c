/* Windows of what came before, an event after the other: what models/windows.py does with numpy, a round at a time.
 *
 * The results and what is kept are the same to the last bit, so the order of each addition is numpy's there, and no
 * a * b + c may become one instruction. Python holds the arrays and gives a row more room; here it is never given.
 */

#include "_kernel.h"

#include <math.h>
#include <stdint.h>

/* The kinds, as JOINS has them. */
enum { EVENTS, COUNT, SUM, MAX, MIN, NEAR, AWAY, SQUARES };

/* The numbers of `counts`. */
enum { LATE, PUSHED_OUT, COUNTS_COUNT };

enum { LANES = 4 };  /* of a sum, as models/windows.py has them */

enum { AHEAD = 6 };  /* events whose rows are on their way from memory while one is taken in */

#if defined(__GNUC__) || defined(__clang__)
#define PREFETCH(address) __builtin_prefetch(address)
#else
#define PREFETCH(address) ((void)(address))
#endif

typedef struct {
    Py_ssize_t length, room;
    double *tags;
    char **values;  /* of each measure */
} Shelf;

typedef struct {
    Py_ssize_t bounds_count, wanted_count, kept_count, spread_count, shelves_count, room_max;
    double keep;
    const double *bounds;          /* how far back each window begins and ends */
    const int64_t (*wanted)[3];    /* its bounds, kind, and measure: of what it is read from, or the spread's number */
    const int64_t (*kept)[2];      /* of each measure: its kind, and the column that it is of */
    const int64_t (*spread)[4];    /* the measures of a field's count, near, away and squares */
    Shelf *shelves;
    const Py_buffer *columns;
} Plan;

static int is_whole(int64_t kind)
{
    return kind == EVENTS || kind == COUNT;
}

static double value_of(const Plan *p, int64_t measure, Py_ssize_t i)
{
    const Py_buffer *column = &p->columns[p->kept[measure][1]];
    return *(const double *)((const char *)column->buf + i * column->strides[0]);
}

static double filled(double value, double otherwise)
{
    return isfinite(value) ? value + 0.0 : otherwise;  /* zero has no sign */
}

/* Which entries a window takes in: all bits of those set, none of the others. */
typedef struct {
    double since, until;
    int32_t *chosen;
} Window;

static void choose(const double *restrict tags, Py_ssize_t room, const Window *window)
{
    const double since = window->since, until = window->until;
    int32_t *restrict chosen = window->chosen;
    for (Py_ssize_t j = 0; j < room; j++)
        chosen[j] = -(int32_t)((tags[j] > since) & (tags[j] <= until));
}

/* One of the tiles' moments around a value of the window; see _moments_of. */
static double moment(const int64_t *measures, int64_t kind, const Shelf *shelf, Py_ssize_t begins, const Window *window)
{
    const int32_t *count = (const int32_t *)shelf->values[measures[0]] + begins;
    const double *near = (const double *)shelf->values[measures[1]] + begins;
    const double *away = (const double *)shelf->values[measures[2]] + begins;
    const double *squares = (const double *)shelf->values[measures[3]] + begins;
    Py_ssize_t most = 0;
    int32_t greatest = 0;
    for (Py_ssize_t j = 0; j < shelf->room; j++)
        if ((count[j] & window->chosen[j]) > greatest) {
            greatest = count[j];
            most = j;
        }
    double found = near[most], total[LANES] = {0.0};
    if (kind == NEAR)
        return found;
    for (Py_ssize_t j = 0; j < shelf->room; j++) {
        if (!window->chosen[j])
            continue;
        double between = near[j] - found, moved = (double)count[j] * between;
        total[j % LANES] += kind == AWAY ? away[j] + moved : squares[j] + (away[j] + away[j] + moved) * between;
    }
    return (total[0] + total[1]) + (total[2] + total[3]);
}

/* Add up every fourth value, four times, and then those sums: they do not wait for each other. */
static double sum(const double *restrict held, const double *restrict tags, Py_ssize_t room, const Window *window)
{
    const double since = window->since, until = window->until;
    double total[LANES] = {0.0};
    Py_ssize_t j = 0;
    for (; j + LANES <= room; j += LANES)
        for (int k = 0; k < LANES; k++)
            total[k] += (tags[j + k] > since) & (tags[j + k] <= until) ? held[j + k] : 0.0;
    for (int k = 0; j + k < room; k++)
        total[k] += (tags[j + k] > since) & (tags[j + k] <= until) ? held[j + k] : 0.0;
    return (total[0] + total[1]) + (total[2] + total[3]);
}

static double aggregate(const Plan *p, const int64_t *wanted, const Shelf *shelf, Py_ssize_t begins,
                        const Window *window)
{
    int64_t kind = wanted[1];
    if (kind >= NEAR)
        return moment(p->spread[wanted[2]], kind, shelf, begins, window);
    if (is_whole(kind)) {
        const int32_t *restrict held = (const int32_t *)shelf->values[wanted[2]] + begins;
        const int32_t *restrict chosen = window->chosen;
        int64_t total = 0;
        for (Py_ssize_t j = 0; j < shelf->room; j++)
            total += held[j] & chosen[j];
        return (double)total;
    }
    const double *held = (const double *)shelf->values[wanted[2]] + begins;
    if (kind == SUM)
        return sum(held, shelf->tags + begins, shelf->room, window);
    double furthest = kind == MAX ? -INFINITY : INFINITY;
    for (Py_ssize_t j = 0; j < shelf->room; j++)
        if (window->chosen[j] && (kind == MAX ? held[j] > furthest : held[j] < furthest))
            furthest = held[j];
    return furthest;
}

/* Join the event to the entry; one that is new holds nothing yet. */
static void join(const Plan *p, const Shelf *shelf, Py_ssize_t entry, Py_ssize_t i, int is_new)
{
    for (Py_ssize_t s = 0; s < p->spread_count; s++) {
        const int64_t *measures = p->spread[s];
        double *near = (double *)shelf->values[measures[1]] + entry;
        double *away = (double *)shelf->values[measures[2]] + entry;
        double *squares = (double *)shelf->values[measures[3]] + entry;
        double given = value_of(p, measures[0], i), value = filled(given, 0.0);
        int32_t count = is_new ? 0 : ((const int32_t *)shelf->values[measures[0]])[entry];
        *near = count ? *near : value;
        double off = (value - *near) * (isfinite(given) ? 1.0 : 0.0);
        *away = (is_new ? 0.0 : *away) + off;
        *squares = (is_new ? 0.0 : *squares) + off * off;
    }
    for (Py_ssize_t m = 0; m < p->kept_count; m++) {
        int64_t kind = p->kept[m][0];
        if (is_whole(kind)) {
            int32_t *held = (int32_t *)shelf->values[m] + entry;
            uint32_t more = kind == EVENTS || isfinite(value_of(p, m, i));
            *held = (int32_t)((is_new ? 0 : (uint32_t)*held) + more);
        } else if (kind == SUM) {
            double *held = (double *)shelf->values[m] + entry;
            *held = (is_new ? 0.0 : *held) + filled(value_of(p, m, i), 0.0);
        } else if (kind == MAX) {
            double *held = (double *)shelf->values[m] + entry, value = filled(value_of(p, m, i), -INFINITY);
            *held = is_new || value > *held ? value : *held;
        } else if (kind == MIN) {
            double *held = (double *)shelf->values[m] + entry, value = filled(value_of(p, m, i), INFINITY);
            *held = is_new || value < *held ? value : *held;
        }
    }
}

/* Find the entry of the tag, or one that is spare: -1 where the row is full. */
static Py_ssize_t entry_of(const double *tags, Py_ssize_t room, double tag, double needed_after, int *is_new)
{
    for (Py_ssize_t j = 0; j < room; j++)
        if (tags[j] == tag) {
            *is_new = 0;
            return j;
        }
    *is_new = 1;
    for (Py_ssize_t j = 0; j < room; j++)
        if (tags[j] <= needed_after)
            return j;
    return -1;
}

typedef struct {
    double *newest;
    const signed char *shelf_of;
    const int32_t *place_of;
    Py_ssize_t row_count;
    char *is_full;  /* of each row; made when one is */
} Rows;

/* Ask for an event's row ahead of its turn: rows lie anywhere, and each would be waited for. */
static void fetch(const Plan *p, const Rows *r, int64_t row)
{
    const Shelf *shelf = &p->shelves[r->shelf_of[row]];
    Py_ssize_t begins = r->place_of[row] * shelf->room;
    PREFETCH(&r->newest[row]);
    PREFETCH(shelf->tags + begins);
    for (Py_ssize_t m = 0; m < p->kept_count; m++)
        PREFETCH(shelf->values[m] + begins * (Py_ssize_t)(is_whole(p->kept[m][0]) ? sizeof(int32_t) : sizeof(double)));
}

/* Go through the events; return how many of them found their row full, or a row before them of the same key. */
static Py_ssize_t steps(const Plan *p, Rows *r, const int64_t *events, Py_ssize_t events_count, const int64_t *rows,
                        const double *tags, double *out, int64_t *missed, int64_t *counts, int64_t *waiting,
                        int32_t *chosen, Py_ssize_t count)
{
    Py_ssize_t waiting_count = 0;
    for (Py_ssize_t e = 0; e < events_count; e++) {
        int64_t i = events[e], row = rows[i];
        if (e + AHEAD < events_count)
            fetch(p, r, rows[events[e + AHEAD]]);
        if (r->is_full && r->is_full[row]) {
            waiting[waiting_count++] = i;
            continue;
        }
        const Shelf *shelf = &p->shelves[r->shelf_of[row]];
        Py_ssize_t begins = r->place_of[row] * shelf->room;
        double *held = shelf->tags + begins, *newest = &r->newest[row], tag = tags[i];
        double last = tag > *newest ? tag : *newest, needed_after = last - p->keep;
        int is_late = !(tag > needed_after), is_new = 1;
        Py_ssize_t entry = is_late ? -1 : entry_of(held, shelf->room, tag, needed_after, &is_new);
        int is_full = !is_late && entry < 0;
        if (is_full && r->shelf_of[row] + 1 < p->shelves_count) {
            if (!r->is_full && !(r->is_full = PyMem_Calloc((size_t)r->row_count, 1))) {
                PyErr_NoMemory();
                return -1;
            }
            r->is_full[row] = 1;
            waiting[waiting_count++] = i;
            continue;
        }
        double needed = *newest - p->keep;  /* what is older may be gone, so nobody looks at it */
        for (Py_ssize_t b = 0; b < p->bounds_count; b++) {
            double since = tag - p->bounds[2 * b], until = tag - p->bounds[2 * b + 1];
            Window window = {.since = needed > since ? needed : since, .until = until, .chosen = chosen};
            choose(held, shelf->room, &window);
            for (Py_ssize_t w = 0; w < p->wanted_count; w++)
                if (p->wanted[w][0] == b)
                    out[w * count + i] = aggregate(p, p->wanted[w], shelf, begins, &window);
        }
        *newest = last;
        if (is_late) {
            missed[counts[LATE]++] = i;
            continue;
        }
        if (is_full) {  /* the oldest leaves; who comes too late pushes nobody out */
            counts[PUSHED_OUT]++;
            entry = 0;
            for (Py_ssize_t j = 1; j < shelf->room; j++)
                if (held[j] < held[entry])
                    entry = j;
            if (tag < held[entry])
                continue;
        }
        join(p, shelf, begins + entry, i, is_new);
        held[entry] = tag;
    }
    return waiting_count;
}

const char windows_doc[] =
"windows(plan, keep, newest, shelf_of, place_of, shelves, rows, tags, columns, out, missed, counts, events, waiting)\n"
"--\n\n"
"Read the windows of these events into out, as they were before each, and take it in.\n\n"
"Return how many of them wait until their row has more room; they were not taken in.";

enum {
    PLAN, KEEP, NEWEST, SHELF_OF, PLACE_OF, SHELVES, ROWS, TAGS, COLUMNS, OUT, MISSED, COUNTS, TAKEN, WAITING,
    ARGUMENTS_COUNT
};
enum { VIEWS_MAX = 14 };

static int misfit(const char *what)
{
    PyErr_Format(PyExc_ValueError, "%s do not fit together", what);
    return -1;
}

/* Take views of the arrays of every shelf, the tags first. */
static int shelves_of(Plan *p, PyObject *shelves, Py_buffer *views, Py_ssize_t *held)
{
    for (Py_ssize_t s = 0; s < p->shelves_count; s++) {
        PyObject *arrays = PyTuple_GetItem(shelves, s);
        if (!arrays || PyTuple_Size(arrays) != 1 + p->kept_count)
            return PyErr_Occurred() ? -1 : misfit("shelves and measures");
        Shelf *shelf = &p->shelves[s];
        for (Py_ssize_t m = -1; m < p->kept_count; m++) {
            const char *format = m >= 0 && is_whole(p->kept[m][0]) ? "i" : "d";
            Py_buffer *view = &views[*held];
            if (bytes_of(PyTuple_GetItem(arrays, 1 + m), view, 1, format) < 0)
                return -1;
            ++*held;
            if (m < 0) {
                if (view->ndim != 2 || view->shape[1] < 1)
                    return misfit("tags and rooms");
                shelf->length = view->shape[0];
                shelf->room = view->shape[1];
                shelf->tags = view->buf;
                if (shelf->room > p->room_max)
                    p->room_max = shelf->room;
            } else {
                if (view->ndim != 2 || view->shape[0] != shelf->length || view->shape[1] != shelf->room)
                    return misfit("tags and values");
                shelf->values[m] = view->buf;
            }
        }
    }
    return 0;
}

/* Look once at what is given, so that no number leads out of an array. */
static int check(const Plan *p, Py_ssize_t columns_count, const Py_buffer *newest, const Py_buffer *shelf_of,
                 const Py_buffer *place_of, const int64_t *rows, Py_ssize_t count, const Py_buffer *events)
{
    Py_ssize_t row_count = newest->len / (Py_ssize_t)sizeof(double);
    if (shelf_of->len != place_of->len / (Py_ssize_t)sizeof(int32_t) || shelf_of->len < row_count)
        return misfit("rows and places");
    for (Py_ssize_t w = 0; w < p->wanted_count; w++) {
        int64_t kind = p->wanted[w][1], from = p->wanted[w][2];
        if (p->wanted[w][0] < 0 || p->wanted[w][0] >= p->bounds_count || kind < 0 || kind > SQUARES || from < 0
            || from >= (kind >= NEAR ? p->spread_count : p->kept_count)
            || (kind < NEAR && is_whole(kind) != is_whole(p->kept[from][0])))
            return misfit("what is wanted and what is kept");
    }
    for (Py_ssize_t s = 0; s < p->spread_count; s++)
        for (int k = 0; k < 4; k++)
            if (p->spread[s][k] < 0 || p->spread[s][k] >= p->kept_count
                || (k ? p->kept[p->spread[s][k]][0] != NEAR - 1 + k : p->kept[p->spread[s][k]][0] != COUNT))
                return misfit("deviations and what is kept");
    for (Py_ssize_t m = 0; m < p->kept_count; m++)
        if (p->kept[m][0] != EVENTS && (p->kept[m][1] < 0 || p->kept[m][1] >= columns_count))
            return misfit("measures and columns");
    const signed char *shelf = shelf_of->buf;
    const int32_t *place = place_of->buf;
    for (Py_ssize_t i = 0; i < count; i++) {
        if (rows[i] < 0 || rows[i] >= row_count)
            return misfit("rows and what is kept of them");
        signed char number = shelf[rows[i]];
        if (number < 0 || number >= p->shelves_count || place[rows[i]] < 0
            || place[rows[i]] >= p->shelves[number].length)
            return misfit("rows and their places");
    }
    const int64_t *event = events->buf;
    for (Py_ssize_t e = 0; e < events->len / (Py_ssize_t)sizeof(int64_t); e++)
        if (event[e] < 0 || event[e] >= count)
            return misfit("events and rows");
    return 0;
}

PyObject *py_windows(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t given)
{
    if (given != ARGUMENTS_COUNT)
        return PyErr_Format(PyExc_TypeError, "windows takes %d arguments, and got %zd", ARGUMENTS_COUNT, given);
    PyObject *result = NULL;
    Py_buffer one[VIEWS_MAX] = {{0}};
    Py_buffer *bounds = &one[0], *wanted = &one[1], *kept = &one[2], *spread = &one[3], *newest = &one[4],
              *shelf_of = &one[5], *place_of = &one[6], *rows = &one[7], *tags = &one[8], *out = &one[9],
              *missed = &one[10], *counts = &one[11], *events = &one[12], *waiting = &one[13];
    Py_buffer *columns = NULL, *views = NULL;
    Py_ssize_t columns_held = 0, views_held = 0;
    Plan plan = {0};
    Rows r = {0};
    char **values = NULL;
    int32_t *chosen = NULL;
    plan.keep = PyFloat_AsDouble(args[KEEP]);
    plan.shelves_count = PyTuple_Size(args[SHELVES]);
    Py_ssize_t columns_count = PyTuple_Size(args[COLUMNS]);
    if (PyErr_Occurred())
        return NULL;
    if (PyTuple_Size(args[PLAN]) != 4) {
        misfit("plan and kernel");
        return NULL;
    }
    if (whole(PyTuple_GetItem(args[PLAN], 0), bounds, 0) < 0
        || bytes_of(PyTuple_GetItem(args[PLAN], 1), wanted, 0, "l") < 0
        || bytes_of(PyTuple_GetItem(args[PLAN], 2), kept, 0, "l") < 0
        || bytes_of(PyTuple_GetItem(args[PLAN], 3), spread, 0, "l") < 0
        || whole(args[NEWEST], newest, 1) < 0 || bytes_of(args[SHELF_OF], shelf_of, 0, "b") < 0
        || bytes_of(args[PLACE_OF], place_of, 0, "i") < 0 || bytes_of(args[ROWS], rows, 0, "l") < 0
        || whole(args[TAGS], tags, 0) < 0 || whole(args[OUT], out, 1) < 0
        || bytes_of(args[MISSED], missed, 1, "l") < 0 || bytes_of(args[COUNTS], counts, 1, "l") < 0
        || bytes_of(args[TAKEN], events, 0, "l") < 0 || bytes_of(args[WAITING], waiting, 1, "l") < 0)
        goto done;
    Py_ssize_t count = rows->len / (Py_ssize_t)sizeof(int64_t);
    plan.bounds_count = bounds->len / (Py_ssize_t)(2 * sizeof(double));
    plan.wanted_count = wanted->len / (Py_ssize_t)(3 * sizeof(int64_t));
    plan.kept_count = kept->len / (Py_ssize_t)(2 * sizeof(int64_t));
    plan.spread_count = spread->len / (Py_ssize_t)(4 * sizeof(int64_t));
    plan.bounds = bounds->buf;
    plan.wanted = wanted->buf;
    plan.kept = kept->buf;
    plan.spread = spread->buf;
    Py_ssize_t events_count = events->len / (Py_ssize_t)sizeof(int64_t);
    if (tags->len != count * (Py_ssize_t)sizeof(double) || missed->len < rows->len || waiting->len < rows->len
        || out->len != plan.wanted_count * count * (Py_ssize_t)sizeof(double)
        || counts->len != COUNTS_COUNT * sizeof(int64_t)) {
        misfit("rows, tags and what comes out");
        goto done;
    }
    views = PyMem_Malloc((size_t)(plan.shelves_count * (1 + plan.kept_count)) * sizeof(Py_buffer) + 1);
    columns = PyMem_Malloc((size_t)columns_count * sizeof(Py_buffer) + 1);
    plan.shelves = PyMem_Malloc((size_t)plan.shelves_count * sizeof(Shelf) + 1);
    values = PyMem_Malloc((size_t)(plan.shelves_count * plan.kept_count) * sizeof(char *) + 1);
    if (!views || !columns || !plan.shelves || !values) {
        PyErr_NoMemory();
        goto done;
    }
    for (Py_ssize_t s = 0; s < plan.shelves_count; s++)
        plan.shelves[s].values = values + s * plan.kept_count;
    plan.columns = columns;
    for (; columns_held < columns_count; columns_held++)
        if (column(PyTuple_GetItem(args[COLUMNS], columns_held), &columns[columns_held], count) < 0)
            goto done;
    if (shelves_of(&plan, args[SHELVES], views, &views_held) < 0
        || check(&plan, columns_count, newest, shelf_of, place_of, rows->buf, count, events) < 0)
        goto done;
    chosen = PyMem_Malloc((size_t)(plan.room_max + 1) * sizeof(int32_t));
    if (!chosen) {
        PyErr_NoMemory();
        goto done;
    }
    r.newest = newest->buf;
    r.shelf_of = shelf_of->buf;
    r.place_of = place_of->buf;
    r.row_count = newest->len / (Py_ssize_t)sizeof(double);
    Py_ssize_t left = steps(&plan, &r, events->buf, events_count, rows->buf, tags->buf, out->buf, missed->buf,
                            counts->buf, waiting->buf, chosen, count);
    result = left < 0 ? NULL : PyLong_FromSsize_t(left);
done:
    while (views_held > 0)
        PyBuffer_Release(&views[--views_held]);
    while (columns_held > 0)
        PyBuffer_Release(&columns[--columns_held]);
    for (int k = 0; k < VIEWS_MAX; k++)
        PyBuffer_Release(&one[k]);
    PyMem_Free(views);
    PyMem_Free(columns);
    PyMem_Free(plan.shelves);
    PyMem_Free(values);
    PyMem_Free(chosen);
    PyMem_Free(r.is_full);
    return result;
}
