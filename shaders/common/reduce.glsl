// Sums and maxima over the workgroup, in an order that depends on no subgroup size: 16 strided parts, then the parts.
// Every invocation gets the result; all of them must call.
shared float reduce_lanes[GROUP];
shared float reduce_parts[16];

float reduce_sum(float x)
{
    uint i = gl_LocalInvocationIndex;
    reduce_lanes[i] = x;
    barrier();
    if (i < 16u) {
        float part = reduce_lanes[i];
        for (uint k = i + 16u; k < GROUP; k += 16u) part += reduce_lanes[k];
        reduce_parts[i] = part;
    }
    barrier();
    float sum = reduce_parts[0];
    for (uint k = 1u; k < 16u; k++) sum += reduce_parts[k];
    return sum;
}

// A NaN may be passed over: what is computed with the maximum shows it.
float reduce_max(float x)
{
    uint i = gl_LocalInvocationIndex;
    reduce_lanes[i] = x;
    barrier();
    if (i < 16u) {
        float part = reduce_lanes[i];
        for (uint k = i + 16u; k < GROUP; k += 16u) part = max(part, reduce_lanes[k]);
        reduce_parts[i] = part;
    }
    barrier();
    float top = reduce_parts[0];
    for (uint k = 1u; k < 16u; k++) top = max(top, reduce_parts[k]);
    return top;
}
