/* The arithmetic of River's linear models, a row after the other, without a dictionary per row; and bins of values.
 *
 * Every result is River's to the last bit, so the order of each addition and the form of each function are
 * River's too: what looks as if it could be written more simply was written by them like this. Powers go through
 * pow(), as Python's ** does, because sqrt(v), x * x and 1 / x may end in other bits. No a * b + c may become one
 * instruction (-ffp-contract=off), and doubles must be doubles in registers too.
 *
 * Python holds the state; models/kernels.py lays it out and has the names of what is numbered here.
 */

#include "_kernel.h"

#include <float.h>
#include <math.h>
#include <string.h>

#if !defined(FLT_EVAL_METHOD) || FLT_EVAL_METHOD != 0
#error "doubles are wider in registers here, and the bits would not be River's"
#endif
#ifdef __FAST_MATH__
#error "-ffast-math changes the bits"
#endif

/* Through a pointer that may change, so that no compiler turns pow(x, 2.0) into x * x. */
static double (*volatile power)(double, double) = pow;

enum { UNSCALED, STANDARD, CENTRED, MIN_MAX };
enum { LOG, HINGE, SQUARED, ABSOLUTE, HUBER, QUANTILE };
enum { SGD, ADAGRAD, ADAM, FTRL };

/* The numbers of `settings`. A rate is constant if its power is 0: pow(t, 0) is 1. */
enum {
    SCALER, LOSS, OPTIMIZER,
    LOSS_A, LOSS_B,  /* the weights of yes and no; the threshold; epsilon; alpha */
    RATE, RATE_POWER, INTERCEPT_RATE, INTERCEPT_RATE_POWER,
    L2, CLIP,
    OPTIMIZER_A, OPTIMIZER_B, OPTIMIZER_C, OPTIMIZER_D,
    SETTINGS_COUNT
};

/* The numbers of `scalars`, and the rows of `state`, in which every feature has a column. */
enum { INTERCEPT, SEEN, SCALARS_COUNT };
enum {
    COUNT,
    CENTRE,  /* the mean, or the least value */
    SPREAD,  /* the variance, or the greatest value */
    WEIGHT,
    FIRST,   /* what the optimizer keeps: AdaGrad g2; Adam m; FTRL z */
    SECOND,  /* Adam v; FTRL n */
    STATE_COUNT
};

typedef struct {
    Py_ssize_t count;  /* of features */
    const double *settings;
    double *scalars;
    double *row[STATE_COUNT];
    double *x, *scaled, *root, *gradient;
    int root_known;
} Model;

static double rate_at(const double *rate, double t)
{
    return rate[0] / power(t + 1.0, rate[1]);
}

static double sigmoid(double x)
{
    if (x < -30.0)
        return 0.0;
    if (x > 30.0)
        return 1.0;
    return 1.0 / (1.0 + exp(-x));
}

/* max(min(x, most), least) as Python has it: whatever is compared with NaN stays. */
static double clamp(double x, double least, double most)
{
    double lower = most < x ? most : x;
    return least > lower ? least : lower;
}

static void scaler_learn(Model *m)
{
    double *restrict count = m->row[COUNT], *restrict centre = m->row[CENTRE], *restrict spread = m->row[SPREAD];
    const double *restrict x = m->x;
    switch ((int)m->settings[SCALER]) {
    case STANDARD:
        for (Py_ssize_t j = 0; j < m->count; j++) {
            double before = centre[j], off = x[j] - before;
            count[j] += 1.0;
            centre[j] = before + off / count[j];
            spread[j] += (off * (x[j] - centre[j]) - spread[j]) / count[j];
        }
        m->root_known = 0;
        break;
    case CENTRED:
        for (Py_ssize_t j = 0; j < m->count; j++) {
            count[j] += 1.0;
            centre[j] += (x[j] - centre[j]) / count[j];
        }
        break;
    case MIN_MAX:
        for (Py_ssize_t j = 0; j < m->count; j++) {
            if (x[j] < centre[j])
                centre[j] = x[j];
            if (x[j] > spread[j])
                spread[j] = x[j];
        }
        break;
    }
}

static void scaler_transform(Model *m)
{
    const double *restrict centre = m->row[CENTRE], *restrict spread = m->row[SPREAD], *restrict x = m->x;
    double *restrict root = m->root, *restrict scaled = m->scaled;
    switch ((int)m->settings[SCALER]) {
    case STANDARD:
        if (!m->root_known) {
            for (Py_ssize_t j = 0; j < m->count; j++)
                root[j] = power(spread[j], 0.5);
            m->root_known = 1;
        }
        for (Py_ssize_t j = 0; j < m->count; j++)
            scaled[j] = spread[j] != 0.0 ? (x[j] - centre[j]) / root[j] : 0.0;
        break;
    case CENTRED:
        for (Py_ssize_t j = 0; j < m->count; j++)
            scaled[j] = x[j] - centre[j];
        break;
    case MIN_MAX:
        for (Py_ssize_t j = 0; j < m->count; j++) {
            double wide = spread[j] - centre[j];
            scaled[j] = wide != 0.0 ? (x[j] - centre[j]) / wide : 0.0;
        }
        break;
    default:
        memcpy(scaled, x, (size_t)m->count * sizeof(double));
    }
}

static double raw_score(const Model *m)
{
    double total = 0.0;
    for (Py_ssize_t j = 0; j < m->count; j++)
        total += m->row[WEIGHT][j] * m->scaled[j];
    return total + m->scalars[INTERCEPT];
}

static int is_classifier(const Model *m)
{
    return (int)m->settings[LOSS] <= HINGE;
}

static double loss_gradient(const Model *m, double label, double score)
{
    double a = m->settings[LOSS_A];
    switch ((int)m->settings[LOSS]) {
    case LOG: {
        double y = label == 0.0 ? -1.0 : 1.0, weight = label == 0.0 ? m->settings[LOSS_B] : a;
        double z = score * y;
        if (z > 18.0)
            return weight * exp(-z) * -y;
        if (z < -18.0)
            return weight * -y;
        return weight * -y / (exp(z) + 1.0);
    }
    case HINGE: {
        double y = label == 0.0 ? -1.0 : 1.0;
        return y * score <= a ? -y : 0.0;
    }
    case SQUARED:
        return 2.0 * (score - label);
    case ABSOLUTE:
        return score > label ? 1.0 : -1.0;
    case HUBER: {
        double off = score - label;
        return fabs(off) <= a ? off : off > 0.0 ? a : -a;
    }
    default:
        return (label < score ? 1.0 : 0.0) - a;
    }
}

/* Return 0, or -1 where Python's ** would overflow: what was done until there stays done, as in River. */
static int optimizer_step(Model *m)
{
    const double *settings = m->settings, *restrict g = m->gradient;
    double *restrict weight = m->row[WEIGHT], *restrict first = m->row[FIRST], *restrict second = m->row[SECOND];
    double t = m->scalars[SEEN], rate = rate_at(settings + RATE, t);
    switch ((int)settings[OPTIMIZER]) {
    case SGD:
        for (Py_ssize_t j = 0; j < m->count; j++)
            weight[j] -= rate * g[j];
        return 0;
    case ADAGRAD: {
        double eps = settings[OPTIMIZER_A];
        for (Py_ssize_t j = 0; j < m->count; j++) {
            double square = power(g[j], 2.0);
            if (isinf(square) && !isinf(g[j]))
                return -1;
            first[j] += square;
            weight[j] -= rate / power(first[j] + eps, 0.5) * g[j];
        }
        return 0;
    }
    case ADAM: {
        double beta_1 = settings[OPTIMIZER_A], beta_2 = settings[OPTIMIZER_B], eps = settings[OPTIMIZER_C];
        rate = rate * power(1.0 - power(beta_2, t + 1.0), 0.5);
        rate /= 1.0 - power(beta_1, t + 1.0);
        for (Py_ssize_t j = 0; j < m->count; j++) {
            first[j] = beta_1 * first[j] + (1.0 - beta_1) * g[j];
            second[j] = beta_2 * second[j] + (1.0 - beta_2) * (g[j] * g[j]);
            weight[j] -= first[j] * rate / (power(second[j], 0.5) + eps);
        }
        return 0;
    }
    default: {
        double alpha = settings[OPTIMIZER_A], beta = settings[OPTIMIZER_B];
        double l1 = settings[OPTIMIZER_C], l2 = settings[OPTIMIZER_D];
        for (Py_ssize_t j = 0; j < m->count; j++)
            if (fabs(first[j]) > l1) {
                double step = power((beta + power(second[j], 0.5)) / alpha + l2, -1.0);
                weight[j] = -step * (first[j] - (first[j] > 0.0 ? l1 : -l1));
            }
        for (Py_ssize_t j = 0; j < m->count; j++) {
            double square = power(g[j], 2.0);
            if (isinf(square) && !isinf(g[j]))
                return -1;
            double sigma = (power(second[j] + square, 0.5) - power(second[j], 0.5)) / alpha;
            first[j] += g[j] - sigma * weight[j];
            second[j] += square;
        }
        return 0;
    }
    }
}

static int learn(Model *m, double label)
{
    double l2 = m->settings[L2], clip = m->settings[CLIP];
    scaler_learn(m);
    scaler_transform(m);
    double slope = clamp(loss_gradient(m, label, raw_score(m)), -clip, clip);
    for (Py_ssize_t j = 0; j < m->count; j++)
        m->gradient[j] = m->scaled[j] * slope;
    if (l2 != 0.0)
        for (Py_ssize_t j = 0; j < m->count; j++)
            m->gradient[j] += l2 * m->row[WEIGHT][j];
    m->scalars[INTERCEPT] -= rate_at(m->settings + INTERCEPT_RATE, m->scalars[SEEN]) * slope;
    if (optimizer_step(m) < 0)
        return -1;
    m->scalars[SEEN] += 1.0;
    return 0;
}

static double predict(Model *m)
{
    scaler_transform(m);
    double score = raw_score(m);
    return is_classifier(m) ? sigmoid(score) : score;
}

static int is_doubles(const Py_buffer *view)
{
    return view->ndim >= 1 && view->itemsize == sizeof(double) && view->format && strcmp(view->format, "d") == 0;
}

int whole(PyObject *object, Py_buffer *view, int writable)
{
    int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0);
    if (PyObject_GetBuffer(object, view, flags) < 0)
        return -1;
    if (is_doubles(view))
        return 0;
    PyBuffer_Release(view);
    PyErr_SetString(PyExc_TypeError, "expected an array of float64");
    return -1;
}

int column(PyObject *object, Py_buffer *view, Py_ssize_t rows)
{
    if (PyObject_GetBuffer(object, view, PyBUF_STRIDED_RO | PyBUF_FORMAT) < 0)
        return -1;
    if (is_doubles(view) && view->ndim == 1 && view->shape[0] == rows)
        return 0;
    PyBuffer_Release(view);
    PyErr_Format(PyExc_TypeError, "expected a column of %zd float64", rows);
    return -1;
}

static Py_ssize_t run(Model *m, const Py_buffer *columns, const Py_buffer *labels, double *scores, Py_ssize_t rows)
{
    for (Py_ssize_t i = 0; i < rows; i++) {
        for (Py_ssize_t j = 0; j < m->count; j++)
            m->x[j] = *(const double *)((const char *)columns[j].buf + i * columns[j].strides[0]);
        if (scores)
            scores[i] = predict(m);
        if (labels) {
            double label = *(const double *)((const char *)labels->buf + i * labels->strides[0]);
            if (!isnan(label) && learn(m, label) < 0)
                return i;
        }
    }
    return -1;
}

PyDoc_STRVAR(run_doc,
"run(settings, scalars, state, columns, labels, scores, rows)\n--\n\n"
"Go through the rows: predict each into scores (or None), then learn it from labels (or None; NaN is no label).\n\n"
"Return -1, or the row at which River would raise OverflowError.");

static PyObject *py_run(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 7)
        return PyErr_Format(PyExc_TypeError, "run takes 7 arguments, and got %zd", count);
    PyObject *result = NULL, *given = args[3];
    Py_ssize_t rows = PyLong_AsSsize_t(args[6]), features = PyTuple_Size(given), held = 0, stopped;
    if (PyErr_Occurred())
        return NULL;
    Py_buffer settings = {0}, scalars = {0}, state = {0}, labels = {0}, scores = {0};
    double *scratch = PyMem_Malloc((size_t)features * 4 * sizeof(double) + 1);
    Py_buffer *columns = PyMem_Malloc((size_t)features * sizeof(Py_buffer) + 1);
    if (!scratch || !columns) {
        PyErr_NoMemory();
        goto done;
    }
    if (whole(args[0], &settings, 0) < 0 || whole(args[1], &scalars, 1) < 0 || whole(args[2], &state, 1) < 0)
        goto done;
    if (settings.len != SETTINGS_COUNT * sizeof(double) || scalars.len != SCALARS_COUNT * sizeof(double)
        || state.ndim != 2 || state.shape[0] != STATE_COUNT || state.shape[1] < features) {
        PyErr_SetString(PyExc_ValueError, "settings, scalars and state are of another kernel");
        goto done;
    }
    for (; held < features; held++)
        if (column(PyTuple_GetItem(given, held), &columns[held], rows) < 0)
            goto done;
    if (args[4] != Py_None && column(args[4], &labels, rows) < 0)
        goto done;
    if (args[5] != Py_None) {
        if (whole(args[5], &scores, 1) < 0)
            goto done;
        if (scores.len != rows * (Py_ssize_t)sizeof(double)) {
            PyErr_SetString(PyExc_ValueError, "there is not one score per row");
            goto done;
        }
    }
    Model model = {.count = features, .settings = settings.buf, .scalars = scalars.buf};
    for (int k = 0; k < STATE_COUNT; k++)
        model.row[k] = (double *)state.buf + k * state.shape[1];
    model.x = scratch;
    model.scaled = scratch + features;
    model.root = scratch + 2 * features;
    model.gradient = scratch + 3 * features;
    stopped = run(&model, columns, labels.obj ? &labels : NULL, scores.obj ? scores.buf : NULL, rows);
    result = PyLong_FromSsize_t(stopped);
done:
    while (held > 0)
        PyBuffer_Release(&columns[--held]);
    PyBuffer_Release(&settings);
    PyBuffer_Release(&scalars);
    PyBuffer_Release(&state);
    PyBuffer_Release(&labels);
    PyBuffer_Release(&scores);
    PyMem_Free(columns);
    PyMem_Free(scratch);
    return result;
}

enum { LANES = 8 };

/* For each of some values the count of edges that it is not below, as numpy.searchsorted(side="right") has it; NaN is
 * behind all. No branch hangs on a value, because nobody could foretell it, and the values do not wait for each other. */
static void edges_of(const double *restrict edges, Py_ssize_t count, const double *restrict value, Py_ssize_t *restrict at)
{
    Py_ssize_t left = count;
    for (int k = 0; k < LANES; k++)
        at[k] = 0;
    while (left > 1) {
        Py_ssize_t half = left / 2;
        for (int k = 0; k < LANES; k++)
            at[k] += half & -(Py_ssize_t)(edges[at[k] + half - 1] <= value[k]);
        left -= half;
    }
    for (int k = 0; k < LANES; k++) {
        at[k] += left == 1 && edges[at[k]] <= value[k];
        at[k] = isnan(value[k]) ? count : at[k];
    }
}

int bytes_of(PyObject *object, Py_buffer *view, int writable, const char *format)
{
    if (PyObject_GetBuffer(object, view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0)) < 0)
        return -1;
    if (view->format && strcmp(view->format, format) == 0)
        return 0;
    PyBuffer_Release(view);
    PyErr_Format(PyExc_TypeError, "expected an array of format %s", format);
    return -1;
}

PyDoc_STRVAR(bins_doc,
"bins(columns, edges, lengths, places, out, rows)\n--\n\n"
"Find the bin of every value: of each column, by its own edges, of which there are as many as lengths says.");

static PyObject *py_bins(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 6)
        return PyErr_Format(PyExc_TypeError, "bins takes 6 arguments, and got %zd", count);
    PyObject *result = NULL;
    Py_ssize_t series = PyTuple_Size(args[0]), rows = PyLong_AsSsize_t(args[5]);
    if (PyErr_Occurred())
        return NULL;
    Py_buffer edges = {0}, lengths = {0}, places = {0}, out = {0}, values = {0};
    if (whole(args[1], &edges, 0) < 0 || bytes_of(args[2], &lengths, 0, "l") < 0
        || bytes_of(args[3], &places, 0, "b") < 0 || bytes_of(args[4], &out, 1, "b") < 0)
        goto done;
    Py_ssize_t total = 0;
    const long *length = lengths.buf;
    for (Py_ssize_t j = 0; j < lengths.len / (Py_ssize_t)sizeof(long); j++)
        total += length[j];
    if (lengths.len != series * (Py_ssize_t)sizeof(long) || edges.len != total * (Py_ssize_t)sizeof(double)
        || places.len != total + series || out.len != rows * series) {
        PyErr_SetString(PyExc_ValueError, "columns, edges, places and bins do not fit together");
        goto done;
    }
    const double *edge = edges.buf;
    const signed char *place = places.buf;
    for (Py_ssize_t j = 0; j < series; j++) {
        if (column(PyTuple_GetItem(args[0], j), &values, rows) < 0)
            goto done;
        const char *at = values.buf;
        signed char *bin = (signed char *)out.buf + j;
        for (Py_ssize_t i = 0; i < rows; i += LANES) {
            double value[LANES] = {0};
            Py_ssize_t found[LANES], some = rows - i < LANES ? rows - i : LANES;
            for (Py_ssize_t k = 0; k < some; k++, at += values.strides[0])
                value[k] = *(const double *)at;
            edges_of(edge, length[j], value, found);
            for (Py_ssize_t k = 0; k < some; k++, bin += series)
                *bin = place[found[k]];
        }
        PyBuffer_Release(&values);
        edge += length[j];
        place += length[j] + 1;
    }
    result = Py_NewRef(Py_None);
done:
    PyBuffer_Release(&edges);
    PyBuffer_Release(&lengths);
    PyBuffer_Release(&places);
    PyBuffer_Release(&out);
    return result;
}

PyDoc_STRVAR(numbers_doc,
"numbers(events, names, out)\n--\n\n"
"Read fields of events into the rows of out, a row per name; None becomes NaN. Raise where one is no number.");

static PyObject *py_numbers(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 3 || !PyList_Check(args[0]) || !PyTuple_Check(args[1]))
        return PyErr_Format(PyExc_TypeError, "numbers takes a list of events, a tuple of names, and an array");
    Py_ssize_t rows = PyList_Size(args[0]), names = PyTuple_Size(args[1]);
    Py_buffer out = {0};
    if (whole(args[2], &out, 1) < 0)
        return NULL;
    PyObject *result = NULL;
    if (out.ndim != 2 || out.shape[0] != names || out.shape[1] != rows) {
        PyErr_SetString(PyExc_ValueError, "events, names and the array do not fit together");
        goto done;
    }
    double *place = out.buf;
    for (Py_ssize_t i = 0; i < rows; i++)
        for (Py_ssize_t k = 0; k < names; k++) {
            /* A class may compute its fields, and change the list as it does. */
            PyObject *event = PyList_GetItem(args[0], i);
            PyObject *value = event ? PyObject_GetAttr(event, PyTuple_GetItem(args[1], k)) : NULL;
            if (!value)
                goto done;
            double number = value == Py_None ? NAN : PyFloat_AsDouble(value);
            Py_DECREF(value);
            if (number == -1.0 && PyErr_Occurred())
                goto done;
            place[k * rows + i] = number;
        }
    result = Py_NewRef(Py_None);
done:
    PyBuffer_Release(&out);
    return result;
}

static PyMethodDef methods[] = {
    {"run", (PyCFunction)(void (*)(void))py_run, METH_FASTCALL, run_doc},
    {"bins", (PyCFunction)(void (*)(void))py_bins, METH_FASTCALL, bins_doc},
    {"numbers", (PyCFunction)(void (*)(void))py_numbers, METH_FASTCALL, numbers_doc},
    {"windows", (PyCFunction)(void (*)(void))py_windows, METH_FASTCALL, windows_doc},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "headrace.models._kernel",
    .m_doc = "The arithmetic that is done for every event, compiled.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__kernel(void)
{
    return PyModuleDef_Init(&definition);
}
