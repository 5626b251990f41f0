// Runs a detector of `tools/deployment/export.py --format aoti` without Python; see docs/export.md.
//   detect PACKAGE.pt2 PICTURE.ppm...
// As many pictures as the package takes in a call. A line for each detection: picture, label, score,
// box, and which share of the box its mask covers.

#include <ATen/ATen.h>
#include <dlfcn.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <cstdio>
#include <fstream>
#include <iostream>
#include <string>

// A picture to the upper left corner of pixels (3, H, W); gives its height and width.
at::Tensor Read(const char* path, const at::Tensor& pixels) {
    std::ifstream file(path, std::ios::binary);
    std::string kind;
    int64_t width = 0, height = 0, greatest = 0;
    file >> kind >> width >> height >> greatest;
    file.get();  // the blank before the pixels
    TORCH_CHECK(file && kind == "P6" && greatest == 255, path, " is no PPM file of 8 bits");
    TORCH_CHECK(height <= pixels.size(1) && width <= pixels.size(2), path, " has ", height, "x", width,
                " pixels, the package takes at most ", pixels.size(1), "x", pixels.size(2));
    const at::Tensor picture = at::empty({height, width, 3}, at::kByte);
    file.read(static_cast<char*>(picture.data_ptr()), picture.numel());
    TORCH_CHECK(file, path, " ends too early");
    pixels.narrow(1, 0, height).narrow(2, 0, width).copy_(picture.permute({2, 0, 1}));
    return at::tensor({height, width}, at::kLong);
}

void Detect(const std::string& package, int64_t count, char** pictures) {
    using Loader = torch::inductor::AOTIModelPackageLoader;
    // Registers what the package calls; nothing of it is called from here.
    TORCH_CHECK(dlopen("libmmdet_atc_operators.so", RTLD_NOW), dlerror(),
                ": the operators belong beside this program (docs/export.md)");
    TORCH_CHECK(std::ifstream(package), "no package at ", package);
    const std::string spec = Loader::load_metadata_from_package(package, "model")["mmdet_atc"];
    long height, width, batch;
    const char* const fields = "{\"height\": %ld, \"width\": %ld, \"batch\": %ld";
    TORCH_CHECK(std::sscanf(spec.c_str(), fields, &height, &width, &batch) == 3, package,
                " is no package of tools/deployment/export.py");
    TORCH_CHECK(count == batch, "the package takes ", batch, " pictures a call, got ", count);
    const at::Tensor pixels = at::zeros({batch, 3, height, width}, at::kByte);
    const at::Tensor sizes = at::empty({batch, 2}, at::kLong);
    for (int64_t i = 0; i < batch; ++i) sizes[i].copy_(Read(pictures[i], pixels[i]));

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
