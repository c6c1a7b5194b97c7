/* The part of ONNX Runtime's C interface that is called here, without its header, which no package of the library brings.

   `OrtGetApiBase()->GetApi(version)` gives a table of functions. It only grows: the library's source asserts the positions of
   the last function of every version (101 in version 1, 118 in version 2, 149 in version 5), "cannot change". So each function
   stands at its position here and what is between is left out. Every one of them was called against 1.31.1. */
#ifndef BOTTEGA_ONNX_RUNTIME_H
#define BOTTEGA_ONNX_RUNTIME_H
#include <stddef.h>
#include <stdint.h>

typedef struct OrtEnv OrtEnv;
typedef struct OrtStatus OrtStatus;
typedef struct OrtMemoryInfo OrtMemoryInfo;
typedef struct OrtSession OrtSession;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtRunOptions OrtRunOptions;
typedef struct OrtValue OrtValue;
typedef struct OrtTypeInfo OrtTypeInfo;
typedef struct OrtTensorTypeAndShapeInfo OrtTensorTypeAndShapeInfo;
typedef struct OrtAllocator OrtAllocator;

typedef void (*OrtUnused)(void);

/* Functions that give a status give NULL when they succeeded; a status is the caller's to release. */
typedef struct OrtApi {
    OrtUnused unused0[1];
    int (*_Nonnull GetErrorCode)(const OrtStatus *);
    const char *(*_Nonnull GetErrorMessage)(const OrtStatus *);
    OrtStatus *(*_Nonnull CreateEnv)(int level, const char *identifier, OrtEnv **out);
    OrtUnused unused4[4];
    OrtStatus *(*_Nonnull CreateSessionFromArray)(const OrtEnv *, const void *bytes, size_t count, const OrtSessionOptions *,
        OrtSession **out);
    OrtStatus *(*_Nonnull Run)(OrtSession *, const OrtRunOptions *, const char *const *inputNames,
        const OrtValue *const *inputs, size_t inputCount, const char *const *outputNames, size_t outputCount,
        OrtValue **outputs);
    OrtStatus *(*_Nonnull CreateSessionOptions)(OrtSessionOptions **out);
    OrtUnused unused11[12];
    OrtStatus *(*_Nonnull SetSessionGraphOptimizationLevel)(OrtSessionOptions *, int level);
    OrtStatus *(*_Nonnull SetIntraOpNumThreads)(OrtSessionOptions *, int);
    OrtStatus *(*_Nonnull SetInterOpNumThreads)(OrtSessionOptions *, int);
    OrtUnused unused26[4];
    OrtStatus *(*_Nonnull SessionGetInputCount)(const OrtSession *, size_t *out);
    OrtStatus *(*_Nonnull SessionGetOutputCount)(const OrtSession *, size_t *out);
    OrtUnused unused32[1];
    OrtStatus *(*_Nonnull SessionGetInputTypeInfo)(const OrtSession *, size_t index, OrtTypeInfo **out);
    OrtStatus *(*_Nonnull SessionGetOutputTypeInfo)(const OrtSession *, size_t index, OrtTypeInfo **out);
    OrtUnused unused35[1];
    OrtStatus *(*_Nonnull SessionGetInputName)(const OrtSession *, size_t index, OrtAllocator *, char **out);
    OrtStatus *(*_Nonnull SessionGetOutputName)(const OrtSession *, size_t index, OrtAllocator *, char **out);
    OrtUnused unused38[10];
    OrtStatus *(*_Nonnull CreateTensorAsOrtValue)(OrtAllocator *, const int64_t *shape, size_t rank, int element,
        OrtValue **out);
    OrtStatus *(*_Nonnull CreateTensorWithDataAsOrtValue)(const OrtMemoryInfo *, void *data, size_t byteCount,
        const int64_t *shape, size_t rank, int element, OrtValue **out);
    OrtUnused unused50[1];
    OrtStatus *(*_Nonnull GetTensorMutableData)(OrtValue *, void **out);
    OrtStatus *(*_Nonnull FillStringTensor)(OrtValue *, const char *const *texts, size_t count);
    OrtUnused unused53[2];
    OrtStatus *(*_Nonnull CastTypeInfoToTensorInfo)(const OrtTypeInfo *, const OrtTensorTypeAndShapeInfo **out);
    OrtStatus *(*_Nonnull GetOnnxTypeFromTypeInfo)(const OrtTypeInfo *, int *out);
    OrtUnused unused57[3];
    OrtStatus *(*_Nonnull GetTensorElementType)(const OrtTensorTypeAndShapeInfo *, int *out);
    OrtStatus *(*_Nonnull GetDimensionsCount)(const OrtTensorTypeAndShapeInfo *, size_t *out);
    OrtStatus *(*_Nonnull GetDimensions)(const OrtTensorTypeAndShapeInfo *, int64_t *values, size_t count);
    OrtUnused unused63[1];
    OrtStatus *(*_Nonnull GetTensorShapeElementCount)(const OrtTensorTypeAndShapeInfo *, size_t *out);
    OrtStatus *(*_Nonnull GetTensorTypeAndShape)(const OrtValue *, OrtTensorTypeAndShapeInfo **out);
    OrtUnused unused66[1];
    OrtStatus *(*_Nonnull GetValueType)(const OrtValue *, int *out);
    OrtUnused unused68[1];
    OrtStatus *(*_Nonnull CreateCpuMemoryInfo)(int allocator, int memory, OrtMemoryInfo **out);
    OrtUnused unused70[6];
    OrtStatus *(*_Nonnull AllocatorFree)(OrtAllocator *, void *);
    OrtUnused unused77[1];
    OrtStatus *(*_Nonnull GetAllocatorWithDefaultOptions)(OrtAllocator **out);
    OrtUnused unused79[1];
    OrtStatus *(*_Nonnull GetValue)(const OrtValue *, int index, OrtAllocator *, OrtValue **out);
    OrtStatus *(*_Nonnull GetValueCount)(const OrtValue *, size_t *out);
    OrtUnused unused82[10];
    void (*_Nonnull ReleaseEnv)(OrtEnv *);
    void (*_Nonnull ReleaseStatus)(OrtStatus *);
    void (*_Nonnull ReleaseMemoryInfo)(OrtMemoryInfo *);
    void (*_Nonnull ReleaseSession)(OrtSession *);
    void (*_Nonnull ReleaseValue)(OrtValue *);
    OrtUnused unused97[1];
    void (*_Nonnull ReleaseTypeInfo)(OrtTypeInfo *);
    void (*_Nonnull ReleaseTensorTypeAndShapeInfo)(OrtTensorTypeAndShapeInfo *);
    void (*_Nonnull ReleaseSessionOptions)(OrtSessionOptions *);
    OrtUnused unused101[29];
    OrtStatus *(*_Nonnull AddSessionConfigEntry)(OrtSessionOptions *, const char *key, const char *value);
} OrtApi;

typedef struct OrtApiBase {
    const OrtApi *(*_Nonnull GetApi)(uint32_t version);
    const char *(*_Nonnull GetVersionString)(void);
} OrtApiBase;

#define ORT_POSITION(name, position) \
    _Static_assert(offsetof(OrtApi, name) == (position) * sizeof(OrtUnused), #name)
ORT_POSITION(GetErrorCode, 1);
ORT_POSITION(GetErrorMessage, 2);
ORT_POSITION(CreateEnv, 3);
ORT_POSITION(CreateSessionFromArray, 8);
ORT_POSITION(Run, 9);
ORT_POSITION(CreateSessionOptions, 10);
ORT_POSITION(SetSessionGraphOptimizationLevel, 23);
ORT_POSITION(SetIntraOpNumThreads, 24);
ORT_POSITION(SetInterOpNumThreads, 25);
ORT_POSITION(SessionGetInputCount, 30);
ORT_POSITION(SessionGetOutputCount, 31);
ORT_POSITION(SessionGetInputTypeInfo, 33);
ORT_POSITION(SessionGetOutputTypeInfo, 34);
ORT_POSITION(SessionGetInputName, 36);
ORT_POSITION(SessionGetOutputName, 37);
ORT_POSITION(CreateTensorAsOrtValue, 48);
ORT_POSITION(CreateTensorWithDataAsOrtValue, 49);
ORT_POSITION(GetTensorMutableData, 51);
ORT_POSITION(FillStringTensor, 52);
ORT_POSITION(CastTypeInfoToTensorInfo, 55);
ORT_POSITION(GetOnnxTypeFromTypeInfo, 56);
ORT_POSITION(GetTensorElementType, 60);
ORT_POSITION(GetDimensionsCount, 61);
ORT_POSITION(GetDimensions, 62);
ORT_POSITION(GetTensorShapeElementCount, 64);
ORT_POSITION(GetTensorTypeAndShape, 65);
ORT_POSITION(GetValueType, 67);
ORT_POSITION(CreateCpuMemoryInfo, 69);
ORT_POSITION(AllocatorFree, 76);
ORT_POSITION(GetAllocatorWithDefaultOptions, 78);
ORT_POSITION(GetValue, 80);
ORT_POSITION(GetValueCount, 81);
ORT_POSITION(ReleaseEnv, 92);
ORT_POSITION(ReleaseStatus, 93);
ORT_POSITION(ReleaseMemoryInfo, 94);
ORT_POSITION(ReleaseSession, 95);
ORT_POSITION(ReleaseValue, 96);
ORT_POSITION(ReleaseTypeInfo, 98);
ORT_POSITION(ReleaseTensorTypeAndShapeInfo, 99);
ORT_POSITION(ReleaseSessionOptions, 100);
ORT_POSITION(AddSessionConfigEntry, 130);
#undef ORT_POSITION

#endif
