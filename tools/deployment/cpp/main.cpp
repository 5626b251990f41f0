// Runs a detector of `tools/deployment/export.py --format aoti` without Python; see docs/export.md.
//   detect PACKAGE.pt2 PICTURE.ppm...
// A line for each detection: picture, label, score, box, the share of the box that its mask covers.

#include <ATen/ATen.h>
#include <dlfcn.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <cstdio>
#include <fstream>
#include <iostream>

using Loader = torch::inductor::AOTIModelPackageLoader;

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

// The smallest size that holds `wanted`, a multiple of `unit` within a package's limits.
int64_t Fitting(const std::string& limits, int64_t wanted, int64_t unit, const char* of) {
    long least, greatest;
    TORCH_CHECK(std::sscanf(limits.c_str(), "%ld %ld", &least, &greatest) == 2,
                "the package holds no limits: export it anew with tools/deployment/export.py");
    TORCH_CHECK(wanted <= greatest, of, ": the package takes at most ", greatest, ", got ", wanted);
    return std::max<int64_t>(least, (wanted + unit - 1) / unit * unit);
}

void Detect(const std::string& package, int64_t count, char** paths) {
    // Registers what the package calls; nothing of it is called from here.
    TORCH_CHECK(dlopen("libmmdet_atc_operators.so", RTLD_NOW), dlerror(),
                ": the operators belong beside this program (docs/export.md)");
    TORCH_CHECK(std::ifstream(package), "no package at ", package);
    auto limits = Loader::load_metadata_from_package(package, "model");
    const int64_t batch = Fitting(limits["batch"], count, 1, "pictures");
    TORCH_CHECK(batch == count, "pictures: the package takes ", batch, ", got ", count);
    std::vector<at::Tensor> pictures, sizes;
    for (int64_t i = 0; i < count; ++i) {
        pictures.push_back(Read(paths[i]));
        sizes.push_back(at::tensor(pictures[i].sizes().slice(1)));
    }
    const at::Tensor largest = at::stack(sizes).amax(0);
    const auto height = Fitting(limits["height"], largest[0].item<int64_t>(), 32, "rows");
    const auto width = Fitting(limits["width"], largest[1].item<int64_t>(), 32, "columns");
    for (auto& x : pictures) x = at::pad(x, {0, width - x.size(2), 0, height - x.size(1)});

    const auto found = Loader(package).run({at::stack(pictures), at::stack(sizes)});
    const at::Tensor boxes = found[0], scores = found[1], labels = found[2], masks = found[3];
    for (int64_t i = 0; i < boxes.size(0); ++i) {
        std::printf("%s %d %.6f", paths[found[4][i].item<int>()], labels[i].item<int>(),
                    scores[i].item<float>());
        for (int64_t side = 0; side < 4; ++side) std::printf(" %.3f", boxes[i][side].item<float>());
        if (masks.numel()) std::printf(" %.3f", masks[i].ge(0.5).mean(at::kFloat).item<float>());
        std::printf("\n");
    }
}

int main(int count, char** arguments) try {
    TORCH_CHECK(count > 2, "usage: detect PACKAGE.pt2 PICTURE.ppm...");
    Detect(arguments[1], count - 2, arguments + 2);
} catch (const std::exception& error) {
    const std::string message = error.what();  // torch's go on with where they were raised
    std::cerr << "error: " << message.substr(0, message.find('\n')) << '\n';
    return 1;
}
