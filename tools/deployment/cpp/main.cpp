// Runs a detector of `tools/deployment/export.py --format aoti` without Python; see docs/export.md.
//   detect PACKAGE.pt2 PICTURE.ppm...
// As many pictures as the package takes in a call, any number of a dynamic one. A line for each
// detection: picture, label, score, box, and which share of the box its mask covers.

#include <ATen/ATen.h>
#include <dlfcn.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <cstdio>
#include <fstream>
#include <iostream>
#include <string>

// Of dynamic packages, as in mmdet_atc/deployment/spec.py.
constexpr long kDivisor = 32, kSmallestSide = 96, kLargestSide = 2880, kLargestBatch = 64;

// A picture, (3, height, width).
at::Tensor Read(const char* path) {
    std::ifstream file(path, std::ios::binary);
    std::string kind;
    int64_t width = 0, height = 0, greatest = 0;
    file >> kind >> width >> height >> greatest;
    file.get();  // the blank before the pixels
    TORCH_CHECK(file && kind == "P6" && greatest == 255, path, " is no PPM file of 8 bits");
    const at::Tensor picture = at::empty({height, width, 3}, at::kByte);
    file.read(static_cast<char*>(picture.data_ptr()), picture.numel());
    TORCH_CHECK(file, path, " ends too early");
    return picture.permute({2, 0, 1});
}

void Detect(const std::string& package, int64_t count, char** pictures) {
    using Loader = torch::inductor::AOTIModelPackageLoader;
    // Registers what the package calls; nothing of it is called from here.
    TORCH_CHECK(dlopen("libmmdet_atc_operators.so", RTLD_NOW), dlerror(),
                ": the operators belong beside this program (docs/export.md)");
    TORCH_CHECK(std::ifstream(package), "no package at ", package);
    const std::string spec = Loader::load_metadata_from_package(package, "model")["mmdet_atc"];
    long height, width, batch;
    char dynamic[6];
    const char* const fields =
        "{\"height\": %ld, \"width\": %ld, \"batch\": %ld, \"dynamic\": %5[a-z]";
    TORCH_CHECK(std::sscanf(spec.c_str(), fields, &height, &width, &batch, dynamic) == 4, package,
                " is no package of tools/deployment/export.py");
    const bool is_dynamic = dynamic == std::string("true");
    if (is_dynamic) height = width = kLargestSide;
    TORCH_CHECK(is_dynamic ? count <= kLargestBatch : count == batch, "the package takes ",
                is_dynamic ? "1 to " : "", is_dynamic ? kLargestBatch : batch,
                " pictures a call, got ", count);
    const at::Tensor sizes = at::empty({count, 2}, at::kLong);
    std::vector<at::Tensor> read;
    for (int64_t i = 0; i < count; ++i) {
        read.push_back(Read(pictures[i]));
        sizes[i].copy_(at::tensor(read[i].sizes().slice(1)));
        TORCH_CHECK(read[i].size(1) <= height && read[i].size(2) <= width, pictures[i], " has ",
                    read[i].size(1), "x", read[i].size(2), " pixels, the package takes at most ",
                    height, "x", width);
    }
    if (is_dynamic) {  // what holds all pictures
        const at::Tensor largest = sizes.amax(0).add(kDivisor - 1).floor_divide(kDivisor).mul(kDivisor);
        height = std::max(largest[0].item<long>(), kSmallestSide);
        width = std::max(largest[1].item<long>(), kSmallestSide);
    }
    const at::Tensor pixels = at::zeros({count, 3, height, width}, at::kByte);
    for (int64_t i = 0; i < count; ++i)
        pixels[i].narrow(1, 0, read[i].size(1)).narrow(2, 0, read[i].size(2)).copy_(read[i]);

    const std::vector<at::Tensor> found = Loader(package).run({pixels, sizes});
    const at::Tensor boxes = found[0], scores = found[1], labels = found[2], masks = found[3];
    for (int64_t i = 0; i < boxes.size(0); ++i) {
        std::printf("%s %d %.6f", pictures[found[4][i].item<int>()], labels[i].item<int>(),
                    scores[i].item<float>());
        for (int64_t side = 0; side < 4; ++side) std::printf(" %.3f", boxes[i][side].item<float>());
        if (masks.numel()) std::printf(" %.3f", masks[i].ge(0.5).to(at::kFloat).mean().item<float>());
        std::printf("\n");
    }
}

int main(int count, char** arguments) {
    try {
        TORCH_CHECK(count > 2, "usage: detect PACKAGE.pt2 PICTURE.ppm...");
        Detect(arguments[1], count - 2, arguments + 2);
    } catch (const std::exception& error) {
        const std::string message = error.what();  // torch's go on with where they were raised
        std::cerr << "error: " << message.substr(0, message.find('\n')) << "\n";
        return 1;
    }
}
