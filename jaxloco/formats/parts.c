/* Functions that an exported policy is put together from, each behind its name. An export has those that it uses, with
   its own prefix in the place of `policy_`. Figures in capitals are constants of the policy. */

/* part: limit */
static float limit(float value, float low, float high)
{
    return value < low ? low : value > high ? high : value;
}

/* part: clip */
static void clip(float *x, const float *low, const float *high, int n)
{
    int i;
    for (i = 0; i < n; ++i) x[i] = limit(x[i], low[i], high[i]);
}

/* part: finite */
/* By their bits: with -ffast-math, isfinite() is always true. */
static int finite_all(const float *x, int n)
{
    uint32_t bits;
    int i;
    for (i = 0; i < n; ++i) {
        memcpy(&bits, x + i, sizeof bits);
        if ((bits & 0x7f800000u) == 0x7f800000u) return 0;
    }
    return 1;
}

/* part: push */
/* Append a row of m numbers to n rows, of which the first goes. */
static void push(float *rows, int n, const float *row, int m)
{
    memmove(rows, rows + m, sizeof(float) * (size_t)(n - 1) * (size_t)m);
    memcpy(rows + (n - 1) * m, row, sizeof(float) * (size_t)m);
}

/* part: add_product */
/* y += x kernel, with kernel (n, m): eight columns at a time, which stay in registers. */
static void add_product(const float *x, int n, const float *kernel, int m, float *y)
{
    int i, j, k;
    for (j = 0; j + 8 <= m; j += 8) {
        float sum[8];
        for (k = 0; k < 8; ++k) sum[k] = y[j + k];
        for (i = 0; i < n; ++i)
            for (k = 0; k < 8; ++k) sum[k] += x[i] * kernel[i * m + j + k];
        for (k = 0; k < 8; ++k) y[j + k] = sum[k];
    }
    for (; j < m; ++j)
        for (i = 0; i < n; ++i) y[j] += x[i] * kernel[i * m + j];
}

/* part: dense */
static void dense(const float *x, int n, const float *kernel, const float *bias, float *y, int m)
{
    memcpy(y, bias, sizeof(float) * (size_t)m);
    add_product(x, n, kernel, m, y);
}

/* part: elu */
static void elu(float *x, int n)
{
    int i;
    for (i = 0; i < n; ++i) if (x[i] < 0.0f) x[i] = expm1f(x[i]);
}

/* part: gelu */
static void gelu(float *x, int n)
{
    int i;
    for (i = 0; i < n; ++i)
        x[i] *= 0.5f * (1.0f + tanhf(0.797884561f * x[i] * (1.0f + 0.044715f * x[i] * x[i])));
}

/* part: leaky_relu */
static void leaky_relu(float *x, int n)
{
    int i;
    for (i = 0; i < n; ++i) if (x[i] < 0.0f) x[i] *= 0.01f;
}

/* part: relu */
static void relu(float *x, int n)
{
    int i;
    for (i = 0; i < n; ++i) if (x[i] < 0.0f) x[i] = 0.0f;
}

/* part: logistic */
static float logistic(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

/* part: sigmoid */
static void sigmoid(float *x, int n)
{
    int i;
    for (i = 0; i < n; ++i) x[i] = logistic(x[i]);
}

/* part: softplus */
static void softplus(float *x, int n)
{
    int i;
    for (i = 0; i < n; ++i) x[i] = fmaxf(x[i], 0.0f) + log1pf(expf(-fabsf(x[i])));
}

/* part: swish */
static void swish(float *x, int n)
{
    int i;
    for (i = 0; i < n; ++i) x[i] *= logistic(x[i]);
}

/* part: tanh */
static void hyperbolic_tangent(float *x, int n)
{
    int i;
    for (i = 0; i < n; ++i) x[i] = tanhf(x[i]);
}

/* part: gru */
/* Gates r, z, n of the input, x, and of the last output, g: h becomes the next output, (n). */
static void gru(const float *x, const float *g, float *h, int n)
{
    int i;
    for (i = 0; i < n; ++i) {
        const float r = logistic(x[i] + g[i]), z = logistic(x[n + i] + g[n + i]);
        h[i] = (1.0f - z) * tanhf(x[2 * n + i] + r * g[2 * n + i]) + z * h[i];
    }
}

/* part: lstm */
/* Gates i, f, g, o of the input, x, and of the last output, g: h and c become the next ones, (n). */
static void lstm(const float *x, const float *g, float *h, float *c, int n)
{
    int i;
    for (i = 0; i < n; ++i) {
        const float in = logistic(x[i] + g[i]), kept = logistic(x[n + i] + g[n + i]);
        c[i] = kept * c[i] + in * tanhf(x[2 * n + i] + g[2 * n + i]);
        h[i] = logistic(x[3 * n + i] + g[3 * n + i]) * tanhf(c[i]);
    }
}

/* part: convolve */
/* y = bias + the sum over taps of past[tap * spacing] kernel[tap], with past (rows, n) and kernel (taps, n, m). */
static void convolve(const float *past, int taps, int spacing, int n, const float *kernel, const float *bias, float *y,
                     int m)
{
    int k;
    memcpy(y, bias, sizeof(float) * (size_t)m);
    for (k = 0; k < taps; ++k) add_product(past + k * spacing * n, n, kernel + k * n * m, m, y);
}

/* part: cycle */
/* How far the cycle of a frequency, Hz, is, from 0 to 1. */
static double cycle(const policy_state *s, double frequency)
{
    return fmod(0.5 * s->half + (double)s->steps * DT * frequency, 1.0);
}

/* part: gait_clock */
static void gait_clock(const policy_state *s, float *to)
{
    const double angle = 6.283185307179586 * cycle(s, CLOCK);
    to[0] = s->moving ? (float)sin(angle) : 0.0f;
    to[1] = s->moving ? (float)cos(angle) : 0.0f;
}

/* part: rest */
static double square(const float *x, int n)
{
    float sum = 0.0f;
    int i;
    for (i = 0; i < n; ++i) sum += x[i] * x[i];
    return sum;
}

/* Half cycles since the clock last started. */
static int64_t halves(int64_t steps)
{
    return (int64_t)(2.0 * DT * CLOCK * (double)steps + NEAR);
}

/* Advance the clock: it stops at the end of a half cycle when there was no command for WAIT steps, and starts with one. */
static void tick(policy_state *s, int still)
{
    const int64_t steps = s->steps + 1;
    s->still = still ? s->still + 1 : 0;
    if (!s->moving) {
        s->moving = !still;
    } else if (s->still > WAIT && halves(steps) > halves(s->steps)) {
        s->moving = 0;
        s->half = (int)((s->half + halves(steps)) % 2);
        s->steps = 0;
    } else {
        s->steps = steps;
    }
}

/* part: wave */
/* Add a gait: the positive half of a sine for each component, while the clock runs. */
static void wave(const policy_state *s, double frequency, const float *amplitude, const double *offset, float *x, int n)
{
    int i;
    for (i = 0; s->moving && i < n; ++i) {
        const double height = sin(6.283185307179586 * fmod(cycle(s, frequency) + offset[i], 1.0));
        x[i] += amplitude[i] * (float)(height > 0.0 ? height : 0.0);
    }
}

/* part: phase */
/* Phase of a foot, in cycles: the clock's, and what the foot's own frequency has added. */
static float phase(const policy_state *s, int foot)
{
    const uint32_t turned = (uint32_t)s->half * 2147483648u + (uint32_t)((uint64_t)s->steps * PER_STEP);
    return (float)((foot_offset[foot] + turned + s->ahead[foot]) >> 8) * 5.9604644775390625e-8f;
}

static float foot_frequency(const policy_state *s, const float *action, int foot)
{
    return (s->moving ? (float)CLOCK : 0.0f) + FREQUENCY_SCALE * action[foot];
}

/* part: foot_phases */
static void foot_phases(const policy_state *s, float *to)
{
    int i;
    for (i = 0; i < FEET; ++i) {
        to[i] = sinf(6.2831855f * phase(s, i));
        to[FEET + i] = cosf(6.2831855f * phase(s, i));
    }
}

/* part: foot_frequencies */
static void foot_frequencies(const policy_state *s, float *to)
{
    int i;
    for (i = 0; i < FEET; ++i) to[i] = foot_frequency(s, s->action, i);
}

/* part: sweep */
/* A foot on the ground goes back as fast as the base is to go forward, and comes to the front while it swings. */
static void sweep(const policy_state *s, int foot, float at, float *p)
{
    const float u = 2.0f * at;
    const float way = 1.0f / (float)CLOCK * (at < 0.5f ? 0.5f * u * u * (3.0f - 2.0f * u) - 0.25f : 0.75f - at);
    p[0] += way * (s->velocity[0] - s->velocity[2] * foot_middle[foot][1]);
    p[1] += way * (s->velocity[1] + s->velocity[2] * foot_middle[foot][0]);
}

/* part: foot_trajectories */
static float wrapped(float angle)
{
    return angle - 6.2831855f * rintf(angle * 0.15915494f);
}

/* Joint positions, rad, for frequencies and offsets of feet: where each foot is to be, then inverse kinematics. */
static void foot_trajectories(const policy_state *s, const float *action, float *joints)
{
    int i, k;
    for (i = 0; i < FEET; ++i) {
        const float *o = leg_origin[i], *f = leg_frame[i], *b = action + FEET + 3 * i;
        const float ahead = phase(s, i) + LEAD * foot_frequency(s, action, i);
        const float rise = fmaxf(1.0f - fabsf(4.0f * (ahead - floorf(ahead)) - 1.0f), 0.0f);
        float p[3], x, y, z, depth, c, sine, first, second, third;
        for (k = 0; k < 3; ++k) p[k] = foot_middle[i][k] + FOOT_SCALE * b[k] - o[k];
        p[2] += HEIGHT * (rise * rise * (3.0f - 2.0f * rise));
#ifdef SWEEP
        sweep(s, i, ahead - floorf(ahead), p);
#endif
        x = f[0] * p[0] + f[1] * p[1] + f[2] * p[2]; /* in the frame of the leg */
        y = f[3] * p[0] + f[4] * p[1] + f[5] * p[2];
        z = f[6] * p[0] + f[7] * p[1] + f[8] * p[2];
        depth = leg_below[i] * sqrtf(fmaxf(y * y + z * z - leg_aside[i] * leg_aside[i], NEAREST * NEAREST));
        first = atan2f(z, y) - atan2f(depth, leg_aside[i]) - leg_first[i];
        x -= leg_hip_x[i];
        z = depth - leg_hip_z[i];
        c = limit((x * x + z * z - leg_sum[i]) * leg_product[i], FOLDED, STRAIGHT); /* cosine of the knee */
        sine = leg_bend[i] * sqrtf(1.0f - c * c);
        second = atan2f(x, z) - atan2f(leg_lower[i] * sine, leg_upper[i] + leg_lower[i] * c) - leg_second[i];
        third = leg_same[i] * (atan2f(sine, c) - leg_third[i]);
        joints[leg_joints[i][0]] = leg_pose[i][0] + wrapped(first);
        joints[leg_joints[i][1]] = leg_pose[i][1] + wrapped(second);
        joints[leg_joints[i][2]] = leg_pose[i][2] + wrapped(third);
    }
}

/* part: motion */
/* Find the turn about the vertical that takes the heading of the motion's frame to that of q, (w, x, y, z). */
static void turn_to(policy_state *s, const float *q)
{
    const float *r = motion_orientations[s->frame];
    const float a = fmaxf(sqrtf(q[0] * q[0] + q[3] * q[3]), 1e-6f), b = fmaxf(sqrtf(r[0] * r[0] + r[3] * r[3]), 1e-6f);
    s->turn[0] = q[0] / a * (r[0] / b) + q[3] / a * (r[3] / b);
    s->turn[1] = q[3] / a * (r[0] / b) - q[0] / a * (r[3] / b);
}

static void find_turn(policy_state *s, const float *q)
{
    if (s->turn[0] == 0.0f && s->turn[1] == 0.0f) turn_to(s, q);
}

/* Advance by a control period. */
static void next_frame(policy_state *s, const float *choice, const float *q)
{
    int i, best = 0;
    for (i = 1; i < MOTION_CLIPS; ++i) if (choice[i] > choice[best]) best = i;
    if (!s->playing && choice[best] > CHOSEN) {
        s->clip = best;
        s->frame = motion_first[best];
        s->playing = 1;
        turn_to(s, q);
    } else if (s->playing && s->frame == motion_last[s->clip]) {
        s->playing = 0;
    } else if (s->playing) {
        ++s->frame;
    }
}

/* part: motion_joint_positions */
static void motion_joint_positions(const policy_state *s, const float *q, float *to)
{
    (void)q;
    memcpy(to, motion_joints[s->frame], MOTION_JOINTS * sizeof(float));
}

/* part: motion_joint_velocities */
static void motion_joint_velocities(const policy_state *s, const float *q, float *to)
{
    int i;
    (void)q;
    for (i = 0; i < MOTION_JOINTS; ++i) to[i] = s->playing ? motion_velocities[s->frame][i] : 0.0f;
}

/* part: motion_orientation */
/* The first two axes of the frame of the motion's base in that of the robot's. */
static void motion_orientation(const policy_state *s, const float *q, float *to)
{
    const float *r = motion_orientations[s->frame], v = s->turn[0], u = s->turn[1];
    const float e = v * r[0] - u * r[3], f = v * r[1] - u * r[2], g = v * r[2] + u * r[1], h = v * r[3] + u * r[0];
    const float n = fmaxf(sqrtf(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3]), 1e-6f);
    const float a = q[0] / n, b = -q[1] / n, c = -q[2] / n, d = -q[3] / n;
    const float w = a * e - b * f - c * g - d * h, x = a * f + b * e + c * h - d * g;
    const float y = a * g - b * h + c * e + d * f, z = a * h + b * g - c * f + d * e;
    to[0] = 1.0f - 2.0f * (y * y + z * z);
    to[1] = 2.0f * (x * y + w * z);
    to[2] = 2.0f * (x * z - w * y);
    to[3] = 2.0f * (x * y - w * z);
    to[4] = 1.0f - 2.0f * (x * x + z * z);
    to[5] = 2.0f * (y * z + w * x);
}

/* part: follow */
static void follow(const policy_state *s, const float *pose, float *x)
{
    const int ahead = s->frame + MOTION_LEAD, last = motion_last[s->clip];
    const float *joints = motion_joints[!s->playing ? s->frame : ahead < last ? ahead : last];
    int i;
    for (i = 0; i < MOTION_JOINTS; ++i) x[i] = x[i] - pose[i] + joints[i];
}
