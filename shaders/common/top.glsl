// The best TOP of many candidates: the larger key first, the smaller tie among equal keys. A radix selection by 8 bits
// at a time finds the key and tie of the last of them; what is not behind it is collected and sorted by rank.
//
// The kernel defines candidate(n, key, tie): place n of its invocation, false if it holds none. No two candidates are
// alike in both; keys come from key_of.
#define TOP 64u

shared uint top_counts[256];
shared uint top_sums[16];
shared uint top_bin;   // the digit of the last of the best
shared uint top_above; // candidates with a larger digit
shared uint top_found;
shared uvec2 top_list[TOP]; // (key, tie) unsorted

// Orders floats, given as bits and NaN left out, as integers; both zeros are one.
uint key_of(uint bits)
{
    if (bits == 0x80000000u) bits = 0u;
    return (bits & 0x80000000u) != 0u ? ~bits : bits | 0x80000000u;
}
uint bits_of_key(uint key) { return (key & 0x80000000u) != 0u ? key & 0x7fffffffu : ~key; }

bool candidate(uint n, out uint key, out uint tie);

// The bin that the wanted-th largest digit lies in, and how many lie above it; wanted - 1 < the sum of all counts.
void find_bin(uint wanted)
{
    uint i = gl_LocalInvocationIndex;
    if (i < 16u) {
        uint sum = 0u;
        for (uint k = 0u; k < 16u; k++) sum += top_counts[16u * i + k];
        top_sums[i] = sum;
    }
    barrier();
    if (i == 0u) {
        uint above = 0u, part = 15u;
        while (part > 0u && above + top_sums[part] < wanted) above += top_sums[part--];
        uint bin = 16u * part + 15u;
        while (bin > 16u * part && above + top_counts[bin] < wanted) above += top_counts[bin--];
        top_bin = bin;
        top_above = above;
    }
    barrier();
}

// Fills top_list, in any order, and returns how many there are. n_places: places of this invocation.
uint select_top(uint n_places)
{
    uvec2 prefix = uvec2(0u), mask = uvec2(0u); // of (key, ~tie), from the top bits down
    uint wanted = TOP;
    bool all = false;
    for (uint pass = 0u; pass < 8u; pass++) {
        uint word = pass / 4u, shift = 24u - pass % 4u * 8u;
        for (uint i = gl_LocalInvocationIndex; i < 256u; i += GROUP) top_counts[i] = 0u;
        if (gl_LocalInvocationIndex == 0u) top_found = 0u;
        barrier();
        for (uint n = 0u; n < n_places; n++) {
            uint key, tie;
            if (!candidate(n, key, tie)) continue;
            uvec2 both = uvec2(key, ~tie);
            if ((both & mask) == prefix) atomicAdd(top_counts[both[word] >> shift & 255u], 1u);
        }
        barrier();
        find_bin(wanted);
        uint in_bin = top_counts[top_bin];
        all = top_above + in_bin < wanted; // fewer candidates than wanted: all are taken
        if (all) break;
        wanted -= top_above;
        prefix[word] |= top_bin << shift;
        mask[word] |= 255u << shift;
        if (in_bin == wanted) break;
        barrier();
    }
    barrier();
    for (uint n = 0u; n < n_places; n++) {
        uint key, tie;
        if (!candidate(n, key, tie)) continue;
        uvec2 both = uvec2(key, ~tie) & mask;
        if (all || both.x > prefix.x || (both.x == prefix.x && both.y >= prefix.y)) {
            uint at = atomicAdd(top_found, 1u);
            if (at < TOP) top_list[at] = uvec2(key, tie);
        }
    }
    barrier();
    return min(top_found, TOP);
}

// The place of entry i of top_list among its n.
uint rank_of(uint i, uint n)
{
    uint rank = 0u;
    for (uint k = 0u; k < n; k++) {
        uvec2 other = top_list[k];
        if (other.x > top_list[i].x || (other.x == top_list[i].x && other.y < top_list[i].y)) rank++;
    }
    return rank;
}
