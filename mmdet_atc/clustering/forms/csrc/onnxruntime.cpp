// mmdet_atc::AgglomerativeClustering for onnxruntime, on the CPU: a library of its own for
// SessionOptions::RegisterCustomOpsLibrary, which needs neither torch nor Python (docs/export.md).

#define ORT_API_MANUAL_INIT
#include <onnxruntime_cxx_api.h>
#undef ORT_API_MANUAL_INIT

#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "checked.hpp"

namespace {

static_assert(ORT_API_VERSION >= 17, "needs the headers of onnxruntime 1.17 or later");

// Null, or what was thrown.
template <typename Work>
OrtStatus* StatusOf(Work work) noexcept {
    try {
        work();
        return nullptr;
    } catch (const std::invalid_argument& error) {
        return Ort::GetApi().CreateStatus(ORT_INVALID_ARGUMENT, error.what());
    } catch (const std::exception& error) {
        return Ort::GetApi().CreateStatus(ORT_FAIL, error.what());
    }
}

// The session's threads, as many as its intra_op_num_threads.
class SessionThreads : public Lender {
  public:
    explicit SessionThreads(const Ort::KernelContext& context) : context_(context) {}
    void Run(std::int64_t count, const std::function<void()>& take) const override {
        const auto call = [](void* work, size_t) {
            (*static_cast<const std::function<void()>*>(work))();
        };
        context_.ParallelFor(call, count, 0, const_cast<std::function<void()>*>(&take));
    }

  private:
    const Ort::KernelContext& context_;
};

class Kernel {
  public:
    explicit Kernel(Linkage linkage) : linkage_(linkage) {}

    OrtStatus* ComputeV2(OrtKernelContext* context) {
        return StatusOf([&] { Cluster(Ort::KernelContext(context)); });
    }

  private:
    void Cluster(const Ort::KernelContext& context) const {
        const Ort::ConstValue features = context.GetInput(0), number = context.GetInput(1);
        const Shape shape(features.GetTensorTypeAndShapeInfo().GetShape());
        const size_t numbers = number.GetTensorTypeAndShapeInfo().GetElementCount();
        Require(numbers == 1, "num_clusters must be one number, got ", numbers);
        const float* const x = features.GetTensorData<float>();
        const std::vector<double> values(x, x + shape.batch * shape.n * shape.channels);
        const SessionThreads threads(context);
        const Wanted wanted{*number.GetTensorData<Index>(), linkage_,
                            {std::thread::hardware_concurrency(), &threads}};
        Ort::UnownedValue labels = context.GetOutput(0, {shape.batch, shape.n});
        ClusterChecked(values.data(), shape, std::numeric_limits<float>::max(), wanted,
                       labels.GetTensorMutableData<Index>());
    }

    Linkage linkage_;
};

struct Operator : Ort::CustomOpBase<Operator, Kernel, true> {
    const char* GetName() const { return "AgglomerativeClustering"; }
    size_t GetInputTypeCount() const { return 2; }
    ONNXTensorElementDataType GetInputType(size_t index) const {
        return index == 0 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT : ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
    }
    size_t GetOutputTypeCount() const { return 1; }
    ONNXTensorElementDataType GetOutputType(size_t) const {
        return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
    }
    OrtStatus* CreateKernelV2(const OrtApi&, const OrtKernelInfo* info, void** kernel) const {
        return StatusOf([&] {
            const auto linkage = Ort::ConstKernelInfo(info).GetAttribute<std::string>("linkage");
            *kernel = new Kernel(LinkageOf(linkage));
        });
    }
};

struct Domain : Ort::CustomOpDomain {
    Domain() : CustomOpDomain("mmdet_atc") { Add(&op); }
    Operator op;
};

}  // namespace

extern "C" __attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(
    OrtSessionOptions* options, const OrtApiBase* base) {
    const OrtApi* const api = base->GetApi(ORT_API_VERSION);
    if (!api) {
        const std::string message =
            "mmdet_atc's operator is built with the headers of onnxruntime 1." +
            std::to_string(ORT_API_VERSION) + ": this is an earlier one, " + base->GetVersionString();
        return base->GetApi(1)->CreateStatus(ORT_FAIL, message.c_str());
    }
    Ort::InitApi(api);
    return StatusOf([&] {
        static const Domain domain;
        Ort::UnownedSessionOptions(options).Add(domain);
    });
}
