// The operator of api.py for programs without Python, by torch's stable ABI; on the CPU, forward.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <vector>

#include "deformable_attention.cpp"

namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

template <typename T, typename Function>
Tensor Attended(
    Function attend, ScalarType type, const Tensor& value, const Tensor& projections,
    const Tensor& reference, const std::vector<Index>& shapes) {
    const auto as_type = [type](const Tensor& x) {
        return torch::stable::contiguous(torch::stable::to(x, type));
    };
    const Tensor v = as_type(value), p = as_type(projections), r = as_type(reference);
    const Index batch = v.size(0), heads = v.size(2), channels = v.size(3), queries = p.size(1);
    const Index levels = shapes.size() / 2;
    const Tensor out = torch::stable::new_empty(v, {batch, queries, heads, channels});
    const int failed = attend(
        v.const_data_ptr<T>(), p.const_data_ptr<T>(), r.const_data_ptr<T>(),
        out.mutable_data_ptr<T>(), batch, v.size(1), heads, channels, levels, queries,
        p.size(2) / (3 * heads * levels), shapes.data(), torch::stable::get_num_threads());
    STD_TORCH_CHECK(!failed, "not enough memory for deformable attention");
    return torch::stable::to(out, value.scalar_type());
}

Tensor Attend(
    const Tensor& value, const Tensor& projections, const Tensor& reference,
    std::vector<Index> shapes) {
    const bool is_double = value.scalar_type() == ScalarType::Double ||
                           projections.scalar_type() == ScalarType::Double;
    return is_double ? Attended<double>(
                           atc_deformable_double, ScalarType::Double, value, projections,
                           reference, shapes)
                     : Attended<float>(
                           atc_deformable_float, ScalarType::Float, value, projections, reference,
                           shapes);
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(mmdet_atc, m) {
    m.def(
        "deformable_attention(Tensor value, Tensor projections, Tensor reference, "
        "SymInt[] shapes) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(mmdet_atc, CPU, m) {
    m.impl("deformable_attention", TORCH_BOX(&Attend));
}
