/* The layout of every public struct, for 64-bit targets. A released line never changes; fields are appended.
 * Made by check_layout.py --write, which also checks that no struct or field is missing. */
#include "gemma.h"
#include "gemma/vulkan.h"

#define SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), "size of " #type)
#define FIELD(type, field, offset, bytes)                                                                              \
    _Static_assert(offsetof(type, field) == (offset) && sizeof(((type *)0)->field) == (bytes), #type "." #field)

_Static_assert(sizeof(void *) == 8 && sizeof(size_t) == 8, "a 64-bit target");

SIZE(gemma_error, 512);
FIELD(gemma_error, size, 0, 4);
FIELD(gemma_error, code, 4, 4);
FIELD(gemma_error, message, 8, 504);

SIZE(gemma_host, 56);
FIELD(gemma_host, size, 0, 4);
FIELD(gemma_host, log_level, 4, 4);
FIELD(gemma_host, user, 8, 8);
FIELD(gemma_host, alloc, 16, 8);
FIELD(gemma_host, free, 24, 8);
FIELD(gemma_host, log, 32, 8);
FIELD(gemma_host, read, 40, 8);
FIELD(gemma_host, parallel_for, 48, 8);

SIZE(gemma_runtime_options, 32);
FIELD(gemma_runtime_options, size, 0, 4);
FIELD(gemma_runtime_options, n_threads, 4, 4);
FIELD(gemma_runtime_options, cpu_mask, 8, 4);
FIELD(gemma_runtime_options, flags, 12, 4);
FIELD(gemma_runtime_options, vulkan, 16, 8);
FIELD(gemma_runtime_options, ram_bytes, 24, 8);

SIZE(gemma_device_info, 304);
FIELD(gemma_device_info, size, 0, 4);
FIELD(gemma_device_info, kind, 4, 4);
FIELD(gemma_device_info, n_heaps, 8, 4);
FIELD(gemma_device_info, usable, 12, 4);
FIELD(gemma_device_info, id, 16, 32);
FIELD(gemma_device_info, name, 48, 128);
FIELD(gemma_device_info, reason, 176, 128);

SIZE(gemma_heap_info, 80);
FIELD(gemma_heap_info, size, 0, 4);
FIELD(gemma_heap_info, pool, 4, 4);
FIELD(gemma_heap_info, total_bytes, 8, 8);
FIELD(gemma_heap_info, budget_bytes, 16, 8);
FIELD(gemma_heap_info, used_bytes, 24, 8);
FIELD(gemma_heap_info, gb_s, 32, 8);
FIELD(gemma_heap_info, name, 40, 32);
FIELD(gemma_heap_info, reported, 72, 4);
FIELD(gemma_heap_info, reserved, 76, 4);

SIZE(gemma_probe, 128);
FIELD(gemma_probe, size, 0, 4);
FIELD(gemma_probe, device, 4, 4);
FIELD(gemma_probe, read_gb_s, 8, 8);
FIELD(gemma_probe, compute_gflops, 16, 8);
FIELD(gemma_probe, op_us, 24, 8);
FIELD(gemma_probe, submit_us, 32, 8);
FIELD(gemma_probe, next, 40, 8);
FIELD(gemma_probe, product_us, 48, 8);
FIELD(gemma_probe, row_ns, 56, 8);
FIELD(gemma_probe, q4_gb_s, 64, 8);
FIELD(gemma_probe, q6_gb_s, 72, 8);
FIELD(gemma_probe, q8_gb_s, 80, 8);
FIELD(gemma_probe, f16_gb_s, 88, 8);
FIELD(gemma_probe, attention_gflops, 96, 8);
FIELD(gemma_probe, attention_us, 104, 8);
FIELD(gemma_probe, q5_gb_s, 112, 8);
FIELD(gemma_probe, dispatch_us, 120, 8);

SIZE(gemma_file_options, 40);
FIELD(gemma_file_options, size, 0, 4);
FIELD(gemma_file_options, flags, 4, 4);
FIELD(gemma_file_options, bytes, 8, 8);
FIELD(gemma_file_options, n_bytes, 16, 8);
FIELD(gemma_file_options, progress, 24, 8);
FIELD(gemma_file_options, progress_user, 32, 8);

SIZE(gemma_file_info, 216);
FIELD(gemma_file_info, size, 0, 4);
FIELD(gemma_file_info, has_weights, 4, 4);
FIELD(gemma_file_info, architecture, 8, 32);
FIELD(gemma_file_info, name, 40, 96);
FIELD(gemma_file_info, quantisation, 136, 32);
FIELD(gemma_file_info, n_layers, 168, 4);
FIELD(gemma_file_info, n_vocab, 172, 4);
FIELD(gemma_file_info, n_embd, 176, 4);
FIELD(gemma_file_info, ctx_trained, 180, 4);
FIELD(gemma_file_info, window, 184, 4);
FIELD(gemma_file_info, n_tensors, 188, 4);
FIELD(gemma_file_info, n_parameters, 192, 8);
FIELD(gemma_file_info, tensor_bytes, 200, 8);
FIELD(gemma_file_info, file_bytes, 208, 8);

SIZE(gemma_placement, 40);
FIELD(gemma_placement, size, 0, 4);
FIELD(gemma_placement, bytes_class, 4, 4);
FIELD(gemma_placement, layer, 8, 4);
FIELD(gemma_placement, n_candidates, 12, 4);
FIELD(gemma_placement, n_bytes, 16, 8);
FIELD(gemma_placement, read_per_token, 24, 8);
FIELD(gemma_placement, candidates, 32, 8);

SIZE(gemma_home, 32);
FIELD(gemma_home, size, 0, 4);
FIELD(gemma_home, kind, 4, 4);
FIELD(gemma_home, device, 8, 4);
FIELD(gemma_home, heap, 12, 4);
FIELD(gemma_home, free_bytes, 16, 8);
FIELD(gemma_home, gb_s, 24, 8);

SIZE(gemma_plan_options, 104);
FIELD(gemma_plan_options, size, 0, 4);
FIELD(gemma_plan_options, device, 4, 4);
FIELD(gemma_plan_options, ctx, 8, 4);
FIELD(gemma_plan_options, n_sessions, 12, 4);
FIELD(gemma_plan_options, kv_tokens, 16, 8);
FIELD(gemma_plan_options, kv_global, 24, 4);
FIELD(gemma_plan_options, kv_sliding, 28, 4);
FIELD(gemma_plan_options, ubatch, 32, 4);
FIELD(gemma_plan_options, n_marks, 36, 4);
FIELD(gemma_plan_options, slack, 40, 4);
FIELD(gemma_plan_options, logit_rows, 44, 4);
FIELD(gemma_plan_options, fit, 48, 4);
FIELD(gemma_plan_options, min_ctx, 52, 4);
FIELD(gemma_plan_options, headroom_bytes, 56, 8);
FIELD(gemma_plan_options, budget_bytes, 64, 8);
FIELD(gemma_plan_options, probe, 72, 8);
FIELD(gemma_plan_options, place, 80, 8);
FIELD(gemma_plan_options, place_user, 88, 8);
FIELD(gemma_plan_options, replaces, 96, 8);

SIZE(gemma_bill, 168);
FIELD(gemma_bill, size, 0, 4);
FIELD(gemma_bill, device, 4, 4);
FIELD(gemma_bill, heap, 8, 4);
FIELD(gemma_bill, pool, 12, 4);
FIELD(gemma_bill, weight_bytes, 16, 8);
FIELD(gemma_bill, kv_sliding_bytes, 24, 8);
FIELD(gemma_bill, kv_global_bytes, 32, 8);
FIELD(gemma_bill, marks_bytes, 40, 8);
FIELD(gemma_bill, scratch_bytes, 48, 8);
FIELD(gemma_bill, staging_bytes, 56, 8);
FIELD(gemma_bill, driver_bytes, 64, 8);
FIELD(gemma_bill, total_bytes, 72, 8);
FIELD(gemma_bill, budget_bytes, 80, 8);
FIELD(gemma_bill, mapped_bytes, 88, 8);
FIELD(gemma_bill, file_bytes, 96, 8);
FIELD(gemma_bill, name, 104, 64);

SIZE(gemma_plan_info, 624);
FIELD(gemma_plan_info, size, 0, 4);
FIELD(gemma_plan_info, device, 4, 4);
FIELD(gemma_plan_info, ctx, 8, 4);
FIELD(gemma_plan_info, n_sessions, 12, 4);
FIELD(gemma_plan_info, kv_tokens, 16, 8);
FIELD(gemma_plan_info, kv_global, 24, 4);
FIELD(gemma_plan_info, kv_sliding, 28, 4);
FIELD(gemma_plan_info, ubatch, 32, 4);
FIELD(gemma_plan_info, n_marks, 36, 4);
FIELD(gemma_plan_info, slack, 40, 4);
FIELD(gemma_plan_info, logit_rows, 44, 4);
FIELD(gemma_plan_info, n_ops, 48, 4);
FIELD(gemma_plan_info, fits, 52, 4);
FIELD(gemma_plan_info, session_bytes, 56, 8);
FIELD(gemma_plan_info, step_bytes, 64, 8);
FIELD(gemma_plan_info, note, 72, 256);
FIELD(gemma_plan_info, n_converted, 328, 4);
FIELD(gemma_plan_info, n_submits, 332, 4);
FIELD(gemma_plan_info, converted_bytes, 336, 8);
FIELD(gemma_plan_info, converted_file_bytes, 344, 8);
FIELD(gemma_plan_info, warning, 352, 256);
FIELD(gemma_plan_info, second_device, 608, 4);
FIELD(gemma_plan_info, split_layers, 612, 4);
FIELD(gemma_plan_info, split_experts, 616, 4);
FIELD(gemma_plan_info, reserved_split, 620, 4);

SIZE(gemma_prediction, 72);
FIELD(gemma_prediction, size, 0, 4);
FIELD(gemma_prediction, measured, 4, 4);
FIELD(gemma_prediction, bytes_per_token, 8, 8);
FIELD(gemma_prediction, kv_bytes_full, 16, 8);
FIELD(gemma_prediction, decode_tok_s, 24, 8);
FIELD(gemma_prediction, decode_full_tok_s, 32, 8);
FIELD(gemma_prediction, prefill_tok_s, 40, 8);
FIELD(gemma_prediction, depth, 48, 8);
FIELD(gemma_prediction, kv_bytes, 56, 8);
FIELD(gemma_prediction, prompt_bytes, 64, 8);

SIZE(gemma_advice, 72);
FIELD(gemma_advice, size, 0, 4);
FIELD(gemma_advice, ctx, 4, 4);
FIELD(gemma_advice, kv_global, 8, 4);
FIELD(gemma_advice, kv_sliding, 12, 4);
FIELD(gemma_advice, n_sessions, 16, 4);
FIELD(gemma_advice, ubatch, 20, 4);
FIELD(gemma_advice, total_bytes, 24, 8);
FIELD(gemma_advice, budget_bytes, 32, 8);
FIELD(gemma_advice, fit, 40, 4);
FIELD(gemma_advice, second_device, 44, 4);
FIELD(gemma_advice, split_layers, 48, 4);
FIELD(gemma_advice, split_experts, 52, 4);
FIELD(gemma_advice, decode_tok_s, 56, 8);
FIELD(gemma_advice, decode_full_tok_s, 64, 8);

SIZE(gemma_pressure, 64);
FIELD(gemma_pressure, size, 0, 4);
FIELD(gemma_pressure, kind, 4, 4);
FIELD(gemma_pressure, device, 8, 4);
FIELD(gemma_pressure, heap, 12, 4);
FIELD(gemma_pressure, budget_bytes, 16, 8);
FIELD(gemma_pressure, used_bytes, 24, 8);
FIELD(gemma_pressure, planned_bytes, 32, 8);
FIELD(gemma_pressure, slow_bytes, 40, 8);
FIELD(gemma_pressure, gb_s, 48, 8);
FIELD(gemma_pressure, expected_gb_s, 56, 8);

SIZE(gemma_load_options, 48);
FIELD(gemma_load_options, size, 0, 4);
FIELD(gemma_load_options, flags, 4, 4);
FIELD(gemma_load_options, progress, 8, 8);
FIELD(gemma_load_options, progress_user, 16, 8);
FIELD(gemma_load_options, cancel, 24, 8);
FIELD(gemma_load_options, pressure, 32, 8);
FIELD(gemma_load_options, pressure_user, 40, 8);

SIZE(gemma_model_status, 120);
FIELD(gemma_model_status, size, 0, 4);
FIELD(gemma_model_status, lost, 4, 4);
FIELD(gemma_model_status, allocated_bytes, 8, 8);
FIELD(gemma_model_status, steps, 16, 8);
FIELD(gemma_model_status, rows, 24, 8);
FIELD(gemma_model_status, step_ns, 32, 8);
FIELD(gemma_model_status, last_step_ns, 40, 8);
FIELD(gemma_model_status, global_pages_free, 48, 4);
FIELD(gemma_model_status, global_pages, 52, 4);
FIELD(gemma_model_status, sliding_pages_free, 56, 4);
FIELD(gemma_model_status, sliding_pages, 60, 4);
FIELD(gemma_model_status, load_seconds, 64, 8);
FIELD(gemma_model_status, load_bytes, 72, 8);
FIELD(gemma_model_status, driver_bytes, 80, 8);
FIELD(gemma_model_status, parked, 88, 4);
FIELD(gemma_model_status, n_events, 92, 4);
FIELD(gemma_model_status, slowest_gb_s, 96, 8);
FIELD(gemma_model_status, median_gb_s, 104, 8);
FIELD(gemma_model_status, last_dispatches, 112, 4);
FIELD(gemma_model_status, last_submits, 116, 4);

SIZE(gemma_tokenizer_info, 24);
FIELD(gemma_tokenizer_info, size, 0, 4);
FIELD(gemma_tokenizer_info, n_vocab, 4, 4);
FIELD(gemma_tokenizer_info, bos, 8, 4);
FIELD(gemma_tokenizer_info, eos, 12, 4);
FIELD(gemma_tokenizer_info, unknown, 16, 4);
FIELD(gemma_tokenizer_info, padding, 20, 4);

SIZE(gemma_session_options, 16);
FIELD(gemma_session_options, size, 0, 4);
FIELD(gemma_session_options, ctx, 4, 4);
FIELD(gemma_session_options, first_position, 8, 4);
FIELD(gemma_session_options, reserved, 12, 4);

SIZE(gemma_feed_options, 32);
FIELD(gemma_feed_options, size, 0, 4);
FIELD(gemma_feed_options, piece, 4, 4);
FIELD(gemma_feed_options, progress, 8, 8);
FIELD(gemma_feed_options, progress_user, 16, 8);
FIELD(gemma_feed_options, cancel, 24, 8);

SIZE(gemma_save_options, 32);
FIELD(gemma_save_options, size, 0, 4);
FIELD(gemma_save_options, reserved, 4, 4);
FIELD(gemma_save_options, write, 8, 8);
FIELD(gemma_save_options, user, 16, 8);
FIELD(gemma_save_options, cancel, 24, 8);

SIZE(gemma_restore_options, 32);
FIELD(gemma_restore_options, size, 0, 4);
FIELD(gemma_restore_options, reserved, 4, 4);
FIELD(gemma_restore_options, read, 8, 8);
FIELD(gemma_restore_options, user, 16, 8);
FIELD(gemma_restore_options, cancel, 24, 8);

SIZE(gemma_row, 16);
FIELD(gemma_row, size, 0, 4);
FIELD(gemma_row, token, 4, 4);
FIELD(gemma_row, target, 8, 4);
FIELD(gemma_row, want, 12, 4);

SIZE(gemma_sampler_options, 48);
FIELD(gemma_sampler_options, size, 0, 4);
FIELD(gemma_sampler_options, temperature, 4, 4);
FIELD(gemma_sampler_options, top_k, 8, 4);
FIELD(gemma_sampler_options, top_p, 12, 4);
FIELD(gemma_sampler_options, min_p, 16, 4);
FIELD(gemma_sampler_options, repetition, 20, 4);
FIELD(gemma_sampler_options, frequency, 24, 4);
FIELD(gemma_sampler_options, presence, 28, 4);
FIELD(gemma_sampler_options, penalty_last, 32, 4);
FIELD(gemma_sampler_options, n_vocab, 36, 4);
FIELD(gemma_sampler_options, seed, 40, 8);

SIZE(gemma_generation_options, 24);
FIELD(gemma_generation_options, size, 0, 4);
FIELD(gemma_generation_options, max_tokens, 4, 4);
FIELD(gemma_generation_options, flags, 8, 4);
FIELD(gemma_generation_options, reserved, 12, 4);
FIELD(gemma_generation_options, cancel, 16, 8);

SIZE(gemma_piece, 32);
FIELD(gemma_piece, size, 0, 4);
FIELD(gemma_piece, id, 4, 4);
FIELD(gemma_piece, text, 8, 8);
FIELD(gemma_piece, n_bytes, 16, 8);
FIELD(gemma_piece, log_prob, 24, 4);
FIELD(gemma_piece, stop, 28, 4);

SIZE(gemma_chat_options, 8);
FIELD(gemma_chat_options, size, 0, 4);
FIELD(gemma_chat_options, variant, 4, 4);

SIZE(gemma_message, 56);
FIELD(gemma_message, size, 0, 4);
FIELD(gemma_message, role, 4, 4);
FIELD(gemma_message, text, 8, 8);
FIELD(gemma_message, n_text, 16, 8);
FIELD(gemma_message, thought, 24, 8);
FIELD(gemma_message, n_thought, 32, 8);
FIELD(gemma_message, name, 40, 8);
FIELD(gemma_message, call_id, 48, 8);

SIZE(gemma_rendering, 32);
FIELD(gemma_rendering, size, 0, 4);
FIELD(gemma_rendering, in_thought, 4, 4);
FIELD(gemma_rendering, n_ids, 8, 8);
FIELD(gemma_rendering, n_standing, 16, 8);
FIELD(gemma_rendering, n_bytes, 24, 8);

SIZE(gemma_parser_options, 8);
FIELD(gemma_parser_options, size, 0, 4);
FIELD(gemma_parser_options, call_bytes, 4, 4);

SIZE(gemma_part, 40);
FIELD(gemma_part, size, 0, 4);
FIELD(gemma_part, kind, 4, 4);
FIELD(gemma_part, text, 8, 8);
FIELD(gemma_part, n_bytes, 16, 8);
FIELD(gemma_part, name, 24, 8);
FIELD(gemma_part, error, 32, 4);
FIELD(gemma_part, reserved, 36, 4);

SIZE(gemma_vulkan_host, 96);
FIELD(gemma_vulkan_host, size, 0, 4);
FIELD(gemma_vulkan_host, api_version, 4, 4);
FIELD(gemma_vulkan_host, get_instance_proc_addr, 8, 8);
FIELD(gemma_vulkan_host, instance, 16, 8);
FIELD(gemma_vulkan_host, physical_device, 24, 8);
FIELD(gemma_vulkan_host, device, 32, 8);
FIELD(gemma_vulkan_host, queue, 40, 8);
FIELD(gemma_vulkan_host, queue_family, 48, 4);
FIELD(gemma_vulkan_host, reserved, 52, 4);
FIELD(gemma_vulkan_host, extensions, 56, 8);
FIELD(gemma_vulkan_host, n_extensions, 64, 8);
FIELD(gemma_vulkan_host, user, 72, 8);
FIELD(gemma_vulkan_host, lock, 80, 8);
FIELD(gemma_vulkan_host, unlock, 88, 8);

int main(void) { return 0; }
