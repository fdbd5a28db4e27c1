// Random numbers: of the right distribution, but not those of cuRAND.
#include "driver.h"

#include <random>

using namespace emulated;

namespace {

struct Generator {
    std::mt19937_64 numbers{0};
    CUstream stream = nullptr;
};

enum Status { SUCCESS = 0, LAUNCH_FAILURE = 201 };

template <typename T, typename Distribution> Status generate(Generator* generator, T* to, size_t count, Distribution distribution) {
    DRIVER_CALL;
    auto work = [=]() mutable {
        for (size_t i = 0; i < count; i++) to[i] = distribution(generator->numbers);
    };
    return submit(generator->stream, work) ? LAUNCH_FAILURE : SUCCESS;
}

}  // namespace

extern "C" {

Status curandCreateGenerator(Generator** generator, int) {
    *generator = new Generator;
    return SUCCESS;
}
Status curandDestroyGenerator(Generator* generator) {
    delete generator;
    return SUCCESS;
}
Status curandSetStream(Generator* generator, CUstream stream) {
    generator->stream = stream;
    return SUCCESS;
}
Status curandSetPseudoRandomGeneratorSeed(Generator* generator, unsigned long long seed) {
    generator->numbers.seed(seed);
    return SUCCESS;
}
Status curandGenerateUniform(Generator* generator, float* to, size_t count) {
    return generate(generator, to, count, std::uniform_real_distribution<float>());
}
Status curandGenerateUniformDouble(Generator* generator, double* to, size_t count) {
    return generate(generator, to, count, std::uniform_real_distribution<double>());
}
Status curandGenerateNormal(Generator* generator, float* to, size_t count, float mean, float deviation) {
    return generate(generator, to, count, std::normal_distribution<float>(mean, deviation));
}
Status curandGenerateNormalDouble(Generator* generator, double* to, size_t count, double mean, double deviation) {
    return generate(generator, to, count, std::normal_distribution<double>(mean, deviation));
}

}  // extern "C"
